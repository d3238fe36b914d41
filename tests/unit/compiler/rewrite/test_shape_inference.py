"""What follows from the size of the batch is the same for each size, or refused."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from starling.compiler import CompileError, compile_model
from starling.protocol.model.training_bundle import INFER
from tests.unit.compiler.small_models import build, node, weight

Nodes = Sequence[onnx.NodeProto]


def _model(nodes: Nodes) -> onnx.ModelProto:
    """From h, (n, 3), and n to the output."""
    tensors: Mapping[str, NDArray[np.generic]] = {
        "w": weight(np.random.default_rng(0), 4, 3),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "thirty": np.array([30], np.int64),
        "three": np.array([3], np.int64),
        "minus": np.array([-1, -1], np.int64),
        "ones": np.array([1, 1], np.int64),
        "a": np.array([5.0], np.float32),
        "b": np.array([7.0], np.float32),
    }
    start = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Shape", ["h"], ["n"], start=0, end=1),
    ]
    return build([*start, *nodes], tensors, (4,), (3,))


_SCALED = [node("Cast", ["k"], ["factor"], to=1), node("Mul", ["h", "factor"], ["out"])]
UNEVEN: Mapping[str, Nodes] = {
    "a choice for one example": [
        node("Equal", ["n", "one"], ["c"]),
        node("Where", ["c", "a", "b"], ["k"]),
        *_SCALED,
    ],
    "a remainder": [node("Mod", ["n", "two"], ["k"]), *_SCALED],
    "a bound": [node("Min", ["n", "thirty"], ["k"]), *_SCALED],
}


@pytest.mark.parametrize("case", UNEVEN)
def test_number_that_the_size_of_the_batch_chooses_is_refused(case: str) -> None:
    with pytest.raises(CompileError, match="is chosen by the size of the batch"):
        compile_model(_model(UNEVEN[case]), loss="mse", train=["w"])


EVEN: Mapping[str, Nodes] = {
    "sizes of which none is left open": [
        node("Concat", ["n", "three"], ["sizes"], axis=0),
        node("Equal", ["sizes", "minus"], ["open"]),
        node("Where", ["open", "ones", "sizes"], ["target"]),
        node("Reshape", ["h", "target"], ["out"]),
    ],
    "a product that is divided again": [
        node("Mul", ["n", "three"], ["all"]),
        node("Div", ["all", "three"], ["again"]),
        node("Concat", ["again", "three"], ["target"], axis=0),
        node("Reshape", ["h", "target"], ["out"]),
    ],
}


@pytest.mark.parametrize("case", EVEN)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_number_that_comes_to_the_same_for_each_batch_is_taken(
    case: str, count: int
) -> None:
    model = _model(EVEN[case])
    x = np.random.default_rng(1).standard_normal((count, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(None, {"x": x})

    bundle = compile_model(model, loss="mse", train=["w"])

    compiled = onnxruntime.InferenceSession(bundle.standalone(INFER))
    (found,) = compiled.run(None, {"theta": bundle.theta, "x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-6)
