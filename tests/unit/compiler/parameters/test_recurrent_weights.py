"""Keras' recurrent layers have one bias, and only that is trained."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

from starling.compiler import compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.protocol.model.training_bundle import INFER
from tests.unit.compiler.small_models import build, node, weight

_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


def _layer(kind: str, *, second: float = 0.0, after: int = 0) -> onnx.ModelProto:
    """Four steps of three channels, two hidden values, as tf2onnx writes it."""
    rng, wide = np.random.default_rng(4), 2 * _GATES[kind]
    bias = np.concatenate([weight(rng, 1, wide), np.full((1, wide), second)], 1)
    tensors: dict[str, NDArray[np.generic]] = {
        "w": weight(rng, 1, wide, 3),
        "r": weight(rng, 1, wide, 2),
        "b": bias.astype(np.float32),
        "v": weight(rng, 2, 3),
        "zero": np.array([0], np.int64),
    }
    layer = node(kind, ["t", "w", "r", "b"], ["", "last"], hidden_size=2)
    if after:
        layer.attribute.append(helper.make_attribute("linear_before_reset", after))
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        layer,
        node("Squeeze", ["last", "zero"], ["s"]),
        node("MatMul", ["s", "v"], ["out"]),
    ]
    proto = build(nodes, tensors, (4, 3), (3,))
    proto.producer_name = "tf2onnx"
    return proto


@pytest.mark.parametrize("kind", _GATES)
def test_second_bias_of_zeros_is_not_trained(kind: str) -> None:
    proto = _layer(kind)
    x = np.random.default_rng(5).standard_normal((6, 4, 3)).astype(np.float32)

    bundle = compile_model(proto, loss="cross-entropy")

    shapes = {item.name: item.shape for item in bundle.manifest.parameters}
    assert shapes["b"] == (1, 2 * _GATES[kind])
    session = onnxruntime.InferenceSession(bundle.standalone(INFER))
    original = onnxruntime.InferenceSession(proto.SerializeToString())
    np.testing.assert_allclose(
        session.run(None, {"theta": bundle.theta, "x": x})[0],
        original.run(None, {"x": x})[0],
        rtol=1e-4,
        atol=1e-5,
    )
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


@pytest.mark.parametrize(
    "proto",
    [
        pytest.param(_layer("LSTM", second=0.5), id="not zero"),
        pytest.param(_layer("GRU", after=1), id="reset after the product"),
    ],
)
def test_second_bias_that_keras_has_is_trained(proto: onnx.ModelProto) -> None:
    bundle = compile_model(proto, loss="cross-entropy")

    (bias,) = [item for item in bundle.manifest.parameters if item.name == "b"]
    assert bias.shape == (1, proto.graph.initializer[2].dims[1])


def test_second_bias_of_another_exporter_is_trained() -> None:
    proto = _layer("LSTM")
    proto.producer_name = "pytorch"

    bundle = compile_model(proto, loss="cross-entropy")

    (bias,) = [item for item in bundle.manifest.parameters if item.name == "b"]
    assert bias.shape == (1, 16)
