"""Small models that join batches behind each other and take them apart again."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.unit.compiler.small_models import build, node, weight

Model = tuple[onnx.ModelProto, str]
_END = (1 << 63) - 1
_HALVES = node("Split", ["x"], ["p", "q"], axis=1)
_JOINED = node("Concat", ["p", "q"], ["j"], axis=0)
_APART = node("Split", ["t"], ["a", "b"], axis=0)
_SIZE = node("Shape", ["x"], ["n"], start=0, end=1)


def _twins(
    layer: Sequence[onnx.NodeProto],
    ending: Sequence[onnx.NodeProto],
    beginning: Sequence[onnx.NodeProto] = (_HALVES, _JOINED),
    row: tuple[int, ...] = (6,),
) -> Model:
    """Halves of an example go through one network: `j` to `t`, then to `d`."""
    rng = np.random.default_rng(61)
    weights: dict[str, NDArray[np.generic]] = {
        "v": weight(rng, 3, 4),
        "c": weight(rng, 4),
        "kernel": weight(rng, 4, 3, 3),
        "w": weight(rng, 1, 12, 3),
        "r": weight(rng, 1, 12, 4),
        "head": weight(rng, 4, 2),
        "half": np.array([0.5], np.float32),
        "zero": np.array([0], np.int64),
        "end": np.array([_END], np.int64),
        "twice": np.array([2, 1], np.int64),
        "pair": np.array([2, -1, 4], np.int64),
        "four": np.array([4], np.int64),
    }
    nodes = [*beginning, *layer, *ending, node("MatMul", ["d", "head"], ["out"])]
    used = {name for made in nodes for name in made.input}
    kept = {name: value for name, value in weights.items() if name in used}
    return build(nodes, kept, row, (2,)), "mse"


_LINEAR = (node("Gemm", ["j", "v", "c"], ["e"]), node("Tanh", ["e"], ["t"]))
_CONVOLUTION = (
    node("Conv", ["j", "kernel", "c"], ["e"]),
    node("Relu", ["e"], ["f"]),
    node("GlobalAveragePool", ["f"], ["g"]),
    node("Flatten", ["g"], ["t"]),
)
_RECURRENT = (
    node("Transpose", ["j"], ["time"], perm=[1, 0, 2]),
    node("GRU", ["time", "w", "r"], ["", "last"], hidden_size=4),
    node("Squeeze", ["last", "zero"], ["t"]),
)
_DIFFERENCE = node("Sub", ["a", "b"], ["d"])
_SLICED = (
    _SIZE,
    node("Slice", ["t", "zero", "n", "zero"], ["a"]),
    node("Slice", ["t", "n", "end", "zero"], ["b"]),
    _DIFFERENCE,
)
_FROM_THE_END = (
    _SIZE,
    node("Neg", ["n"], ["back"]),
    node("Slice", ["t", "zero", "back", "zero"], ["a"]),
    node("Slice", ["t", "back", "end", "zero"], ["b"]),
    _DIFFERENCE,
)
_SIZED = (
    _SIZE,
    node("Concat", ["n", "n"], ["sizes"], axis=0),
    node("Split", ["t", "sizes"], ["a", "b"], axis=0),
    _DIFFERENCE,
)
_LARGEST = (
    node("Reshape", ["t", "pair"], ["pairs"]),
    node("ReduceMax", ["pairs"], ["d"], axes=[0], keepdims=0),
)
_TURNED = (
    node("Transpose", ["x"], ["y"]),
    node("Split", ["y"], ["p", "q"], axis=0),
    node("Concat", ["p", "q"], ["k"], axis=1),
    node("Transpose", ["k"], ["j"]),
)
_STATE = (
    _HALVES,
    _SIZE,
    node("Gemm", ["p", "v", "c"], ["e"]),
    node("Concat", ["n", "four"], ["shape"], axis=0),
    node("Expand", ["half", "shape"], ["state"]),
    node("Concat", ["e", "state"], ["k"], axis=0),
)
JOINED_CASES: Mapping[str, Callable[[], Model]] = {
    "joined twins": lambda: _twins(_LINEAR, (_APART, _DIFFERENCE)),
    "joined twins, cut by the size of the batch": lambda: _twins(_LINEAR, _SLICED),
    "joined twins, cut from the end": lambda: _twins(_LINEAR, _FROM_THE_END),
    "joined twins, split by sizes": lambda: _twins(_LINEAR, _SIZED),
    "joined twins, the larger of both": lambda: _twins(_LINEAR, _LARGEST),
    "joined twins behind a convolution": lambda: _twins(
        _CONVOLUTION, (_APART, _DIFFERENCE), row=(6, 5)
    ),
    "joined twins behind a recurrent layer": lambda: _twins(
        _RECURRENT, (_APART, _DIFFERENCE), row=(6, 3)
    ),
    "joined along the last axis": lambda: _twins(
        _LINEAR, (_APART, _DIFFERENCE), _TURNED
    ),
    "copies of a batch": lambda: _twins(
        _LINEAR,
        (_APART, node("Mul", ["a", "b"], ["d"])),
        [node("Tile", ["x", "twice"], ["j"])],
        row=(3,),
    ),
    "joined with a state that is the same for all": lambda: _twins(
        (node("Tanh", ["k"], ["t"]),),
        (_APART, _DIFFERENCE),
        _STATE,
    ),
}
