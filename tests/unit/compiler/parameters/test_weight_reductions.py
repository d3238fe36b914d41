"""Norms of a weight that the older exporter took in advance follow the weight."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from starling.compiler import compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from tests.unit.compiler.small_models import build, node, weight

RNG = np.random.default_rng(4)
CLASSES = weight(RNG, 5, 6) + np.float32(0.4)


def _cosines(norm: NDArray[np.float32], opset: int = 17) -> onnx.ModelProto:
    """Rows of a matrix over a norm, as `normalize(w)` is written."""
    tensors = {
        "head.w": CLASSES,
        "onnx::Clip_38": norm,
        "/head/Constant_output_0": np.array(1e-12, np.float32),
    }
    nodes = [
        node(
            "Clip", ["onnx::Clip_38", "/head/Constant_output_0"], ["safe"], "/head/Clip"
        ),
        node("Div", ["head.w", "safe"], ["rows"], "/head/Div"),
        node("Gemm", ["x", "rows"], ["out"], "/head/Gemm", transB=1),
    ]
    proto = build(nodes, tensors, (6,), (5,), opset)
    proto.producer_name = "pytorch"
    return proto


NORMS: dict[str, NDArray[np.float32]] = {
    "lengths of rows": np.sqrt(np.square(CLASSES).sum(1, keepdims=True)),
    "lengths of columns": np.sqrt(np.square(CLASSES).sum(0, keepdims=True)),
    "sizes of rows": np.abs(CLASSES).sum(1, keepdims=True),
    "sums of rows": CLASSES.sum(1, keepdims=True),
    "squares of rows": np.square(CLASSES).sum(1, keepdims=True),
}


@pytest.mark.parametrize("opset", [12, 17, 18])
@pytest.mark.parametrize("case", NORMS)
def test_norm_of_a_weight_is_computed_from_it_again(case: str, opset: int) -> None:
    bundle = compile_model(_cosines(NORMS[case], opset), loss="mse")

    trained = [item.name for item in bundle.manifest.parameters if item.trainable]
    assert trained == ["head.w"]
    assert "onnx::Clip_38 is made of head.w and trained as one with it" in bundle.notes
    assert check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


def test_gains_of_no_weight_stay_as_they_are() -> None:
    bundle = compile_model(_cosines(weight(RNG, 5, 1) + np.float32(3.0)), loss="mse")

    trained = [item.name for item in bundle.manifest.parameters if item.trainable]
    assert trained == ["head.w", "onnx::Clip_38"]
