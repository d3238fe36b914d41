"""Small models whose weights pass an operator by themselves, without an input."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.unit.compiler.small_models import build, node, weight

Model = tuple[onnx.ModelProto, str]


def _weights() -> Mapping[str, NDArray[np.generic]]:
    rng = np.random.default_rng(91)
    grid = np.meshgrid([3, 1, 0, 2], [0, 1, 2, 3], indexing="ij")
    return {
        "a": weight(rng, 4, 4) + np.float32(0.3),
        "b": weight(rng, 4, 4),
        "zero": np.array(0, np.int64),
        "pairs": np.stack(grid, -1).reshape(-1, 2),
        "square": np.array([4, 4], np.int64),
    }


def _model(*nodes: onnx.NodeProto) -> Model:
    """Nodes from the weights `a` and `b` to the matrix `s` of a layer."""
    read = {name for item in nodes for name in item.input}
    arrays = {name: value for name, value in _weights().items() if name in read}
    made = [*nodes, node("MatMul", ["x", "s"], ["h"]), node("Tanh", ["h"], ["out"])]
    return build(made, arrays, (3, 4), (3, 4)), "mse"


NODES: Mapping[str, Sequence[onnx.NodeProto]] = {
    "softmax of a weight": [node("Softmax", ["a"], ["s"], axis=-1)],
    "softmax of a weight along rows": [node("Softmax", ["a"], ["s"], axis=0)],
    "log softmax of a weight": [node("LogSoftmax", ["a"], ["s"], axis=1)],
    "weight of length one": [node("LpNormalization", ["a"], ["s"], axis=-1)],
    "weight of sum one": [node("LpNormalization", ["a"], ["s"], axis=0, p=1)],
    "triangle of a weight": [node("Trilu", ["a"], ["s"])],
    "running sum of a weight": [node("CumSum", ["a", "zero"], ["s"])],
    "product of a weight": [
        node("ReduceProd", ["a"], ["p"], axes=[0], keepdims=1),
        node("Mul", ["p", "a"], ["s"]),
    ],
    "sizes of a weight": [
        node("ReduceL1", ["a"], ["p"], axes=[1], keepdims=1),
        node("Div", ["a", "p"], ["s"]),
    ],
    "length of a whole weight": [
        node("ReduceL2", ["a"], ["p"], keepdims=0),
        node("Div", ["a", "p"], ["s"]),
    ],
    "mean of a whole weight": [
        node("ReduceMean", ["a"], ["p"], keepdims=1),
        node("Sub", ["a", "p"], ["s"]),
    ],
    "largest of a whole weight": [
        node("ReduceMax", ["a"], ["p"], keepdims=0),
        node("Mul", ["b", "p"], ["s"]),
    ],
    "einsum of weights": [node("Einsum", ["a", "b"], ["s"], equation="ij,jk->ik")],
    "gemm of weights": [node("Gemm", ["a", "b"], ["s"], transA=1, transB=1, alpha=0.5)],
    "hyperbolic sine of a weight": [node("Sinh", ["a"], ["s"])],
    "steps of a weight": [
        node("Round", ["a"], ["r"]),
        node("Sub", ["r", "a"], ["d"]),
        node("Add", ["a", "d"], ["s"]),
    ],
    "pairs of places of a weight": [
        node("GatherND", ["a", "pairs"], ["q"]),
        node("Reshape", ["q", "square"], ["s"]),
    ],
}

WEIGHT_CASES: Mapping[str, Callable[[], Model]] = {
    case: lambda nodes=nodes: _model(*nodes)  # type: ignore[misc] # bound as it stands
    for case, nodes in NODES.items()
}
