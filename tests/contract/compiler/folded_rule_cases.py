"""Small models whose batch axis holds several parts of each example."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.compiler.ir.graph_writer import Attribute
from tests.unit.compiler.small_models import build, node, weight

Model = tuple[onnx.ModelProto, str]
Arrays = dict[str, NDArray[np.generic]]
PARTS = 3


def _folded(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, NDArray[np.generic]],
    row: tuple[int, ...],
    out: tuple[int, ...],
    opset: int = 17,
) -> Model:
    """Nodes from `t` to `r` between the folding of three parts and its undoing."""
    rng = np.random.default_rng(51)
    shapes: Arrays = {
        "first": weight(rng, row[-1], row[-1]),
        "fold": np.array([-1, *row], np.int64),
        "unfold": np.array([-1, PARTS, *out], np.int64),
    }
    made = [
        node("MatMul", ["x", "first"], ["h"]),
        node("Tanh", ["h"], ["b"]),
        node("Reshape", ["b", "fold"], ["t"]),
        *nodes,
        node("Reshape", ["r", "unfold"], ["out"]),
    ]
    tensors = {**shapes, **weights}
    return build(made, tensors, (PARTS, *row), (PARTS, *out), opset), "mse"


def _one(
    kind: str,
    row: tuple[int, ...],
    out: tuple[int, ...],
    *shapes: tuple[int, ...],
    integers: Sequence[Sequence[int]] = (),
    opset: int = 17,
    **attributes: Attribute,
) -> Model:
    """One operator with weights of given shapes, then constants."""
    rng = np.random.default_rng(52)
    arrays: Arrays = {f"w{k}": weight(rng, *shape) for k, shape in enumerate(shapes)}
    arrays |= {f"c{k}": np.array(v, np.int64) for k, v in enumerate(integers)}
    nodes = [node(kind, ["t", *arrays], ["r"], "", **attributes)]
    return _folded(nodes, arrays, row, out, opset)


def _normalised() -> Model:
    rng = np.random.default_rng(53)
    weights = {
        "gain": 1 + rng.random(2, np.float32),
        "bias": weight(rng, 2),
        "mean": weight(rng, 2),
        "variance": 1 + rng.random(2, np.float32),
    }
    return _folded(
        [node("BatchNormalization", ["t", *weights], ["r"])], weights, (2, 5), (2, 5)
    )


def _pooled_convolution(*, wide: bool) -> Model:
    """A convolution with its bias, a ReLU and a pooling of tiles, twice in use."""
    rng = np.random.default_rng(54)
    width = 9 if wide else 2
    weights = {"w": weight(rng, 4, 2, width), "bias": weight(rng, 4)}
    nodes = [
        node("Conv", ["t", "w", "bias"], ["c"]),
        node("Relu", ["c"], ["a"]),
        node("MaxPool", ["a"], ["r"], kernel_shape=[2], strides=[2]),
    ]
    return _folded(nodes, weights, (2, 11), (4, (12 - width) // 2))


def _recurrent(kind: str, gates: int, *, turned: bool) -> Model:
    """A recurrent layer on each part, from zeros as exporters write them.

    With `turned` the parts stand in front of the batch.
    """
    rng = np.random.default_rng(55)
    weights: Arrays = {
        "w": weight(rng, 1, gates * 4, 3),
        "r": weight(rng, 1, gates * 4, 4),
        "b": weight(rng, 1, 8 * gates),
        "rows": np.array([1], np.int64),
        "one": np.array([1], np.int64),
        "four": np.array([4], np.int64),
        "last": np.array(-1, np.int64),
        "fold": np.array([-1, 5, 3], np.int64),
        "unfold": np.array([PARTS, -1, 4] if turned else [-1, PARTS, 4], np.int64),
    }
    first = ["x"]
    nodes = [node("Transpose", ["x"], ["parts"], perm=[1, 0, 2, 3])] if turned else []
    first = ["parts"] if turned else ["x"]
    states = ["h0", "h0"] if kind == "LSTM" else ["h0"]
    nodes += [
        node("Reshape", [*first, "fold"], ["flat"]),
        node("Transpose", ["flat"], ["time"], perm=[1, 0, 2]),
        node("Shape", ["flat"], ["size"], start=0, end=1),
        node("Concat", ["one", "size", "four"], ["shape"], axis=0),
        node("ConstantOfShape", ["shape"], ["h0"]),
        node(
            kind, ["time", "w", "r", "b", "", *states], ["y"], "", hidden_size=4
        ),
        node("Gather", ["y", "last"], ["end"], axis=0),
        node("Reshape", ["end", "unfold"], ["back"]),
    ]  # fmt: skip  # a table
    if turned:
        nodes.append(node("Transpose", ["back"], ["out"], perm=[1, 0, 2]))
    else:
        nodes.append(node("Identity", ["back"], ["out"]))
    return build(nodes, weights, (PARTS, 5, 3), (PARTS, 4)), "mse"


def _table() -> Model:
    """An embedding of tokens in each part, and a weight that all parts share."""
    rng = np.random.default_rng(56)
    weights: Arrays = {
        "table": weight(rng, 9, 4),
        "fold": np.array([-1, 2], np.int64),
        "unfold": np.array([-1, PARTS, 4, 2], np.int64),
        "gain": weight(rng, 4, 4, 1),
    }
    nodes = [
        node("Reshape", ["x", "fold"], ["f"]),
        node("Cast", ["f"], ["i"], to=7),
        node("Gather", ["table", "i"], ["rows"]),
        node("Transpose", ["rows"], ["t"], perm=[0, 2, 1]),
        node("Conv", ["t", "gain"], ["r"]),
        node("Reshape", ["r", "unfold"], ["out"]),
    ]
    return build(nodes, weights, (PARTS, 2), (PARTS, 4, 2)), "mse"


def _places() -> Model:
    """The largest values of each part, and the same picked by their places."""
    weights: Arrays = {"two": np.array([2], np.int64)}
    nodes = [
        node("TopK", ["t", "two"], ["top", "where"], axis=-1),
        node("GatherElements", ["t", "where"], ["same"], axis=1),
        node("Mul", ["top", "same"], ["r"]),
    ]
    return _folded(nodes, weights, (6,), (2,))


def _time_first() -> Model:
    """Operators along time, which stands in front of the batch."""
    rng = np.random.default_rng(57)
    weights: Arrays = {
        "w": weight(rng, 4, 4),
        "gain": 1 + rng.random(4, np.float32),
        "zero": np.array(0, np.int64),
        "pads": np.array([1, 0, 0, 0, 0, 0], np.int64),
        "copies": np.array([1, 1, 2], np.int64),
        "two": np.array([2], np.int64),
        "mix": weight(rng, 4, 3),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Transpose", ["h"], ["t"], perm=[1, 0, 2]),
        node("CumSum", ["t", "zero"], ["s"]),
        node("Sin", ["s"], ["n"]),
        node("LayerNormalization", ["n", "gain"], ["l"], axis=-1),
        node("Pad", ["l", "pads"], ["p"]),
        node("Einsum", ["mix", "p"], ["e"], equation="ts,tbc->sbc"),
        node("TopK", ["e", "two"], ["k", "where"], axis=0),
        node("Tile", ["k", "copies"], ["c"]),
        node("Transpose", ["c"], ["out"], perm=[1, 0, 2]),
    ]
    return build(nodes, weights, (3, 4), (2, 8)), "mse"


def _pairs() -> Model:
    """Matrix products and an Einsum of parts with each other."""
    nodes = [
        node("Transpose", ["t"], ["u"], perm=[0, 2, 1]),
        node("MatMul", ["t", "u"], ["m"]),
        node("Einsum", ["m", "t", "w"], ["e"], equation="bij,bjc,cd->bid"),
        node("Softmax", ["e"], ["r"], axis=1),
    ]
    weights = {"w": weight(np.random.default_rng(58), 4, 2)}
    return _folded(nodes, weights, (3, 4), (3, 2))


FOLDED_CASES: Mapping[str, Callable[[], Model]] = {
    "folded convolution": lambda: _one("Conv", (2, 8), (3, 6), (3, 2, 3), (3,)),
    "folded convolution, groups": lambda: _one(
        "Conv", (4, 6), (4, 6), (4, 1, 3), (4,), group=4, pads=[1, 1]
    ),
    "folded convolution, two axes": lambda: _one(
        "Conv", (2, 6, 5), (3, 2, 2), (3, 2, 3, 2), strides=[2, 2]
    ),
    "folded convolution, pooled": lambda: _pooled_convolution(wide=False),
    "folded convolution, wide": lambda: _pooled_convolution(wide=True),
    "folded transposed convolution": lambda: _one(
        "ConvTranspose", (2, 5), (3, 11), (2, 3, 3), (3,), strides=[2]
    ),
    "folded max pool": lambda: _one(
        "MaxPool", (2, 7), (2, 3), kernel_shape=[3], strides=[2]
    ),
    "folded average pool": lambda: _one(
        "AveragePool", (2, 7), (2, 3), kernel_shape=[3], strides=[2]
    ),
    "folded global average": lambda: _one("GlobalAveragePool", (2, 6), (2, 1)),
    "folded global maximum": lambda: _one("GlobalMaxPool", (2, 6), (2, 1)),
    "folded batch normalisation": _normalised,
    "folded layer normalisation": lambda: _one(
        "LayerNormalization", (3, 4), (3, 4), (3, 4), (3, 4), axis=1
    ),
    "folded group normalisation": lambda: _one(
        "GroupNormalization", (4, 3), (4, 3), (4,), (4,), num_groups=2, opset=21
    ),
    "folded instance normalisation": lambda: _one(
        "InstanceNormalization", (2, 5), (2, 5), (2,), (2,)
    ),
    "folded LSTM": lambda: _recurrent("LSTM", 4, turned=False),
    "folded LSTM, parts first": lambda: _recurrent("LSTM", 4, turned=True),
    "folded GRU": lambda: _recurrent("GRU", 3, turned=False),
    "folded RNN": lambda: _recurrent("RNN", 1, turned=True),
    "folded padding": lambda: _one(
        "Pad", (3, 4), (3, 7), integers=[[0, 0, 2, 0, 0, 1]], mode="reflect"
    ),
    "folded running sum": lambda: _one("CumSum", (3, 4), (3, 4), integers=[[2]]),
    "folded copies": lambda: _one("Tile", (3, 4), (3, 8), integers=[[1, 1, 2]]),
    "folded linear layer": lambda: _one("Gemm", (4,), (2,), (4, 2), (2,)),
    "folded learned slope": lambda: _one("PRelu", (3, 4), (3, 4), (3, 1)),
    "folded sine": lambda: _one("Sin", (4,), (4,)),
    "folded pixels": lambda: _one("DepthToSpace", (4, 2, 3), (1, 4, 6), blocksize=2),
    "folded choice of places": lambda: _one(
        "Gather", (3, 4), (3, 2), integers=[[3, 1]], axis=2
    ),
    "folded table": _table,
    "folded largest values": _places,
    "folded products": _pairs,
    "time before the batch": _time_first,
}
