"""Compiled gradients against PyTorch's, for whole architectures.

The vectors come from `tests/vectors/gradient_vectors.py`, where each architecture is
written in PyTorch under the same name.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from starling.compiler import Bundle, compile_model
from starling.protocol.model.training_bundle import GRADIENT, PRIVATE_GRADIENT
from starling.protocol.privacy.clipping_functions import clip_margin
from tests.unit.compiler.small_models import build, node

Weights = Mapping[str, NDArray[np.generic]]
VECTORS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "gradient_vectors.json").read_text()
)
TOLERANCE = 1e-5


def _lenet(weights: Weights) -> onnx.ModelProto:
    tile = [2, 2]
    nodes = [
        node("Conv", ["x", "c1", "b1"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=tile, strides=tile),
        node("Conv", ["c", "c2", "b2"], ["d"], pads=[1, 1, 1, 1]),
        node("MaxPool", ["d"], ["e"], kernel_shape=tile, strides=tile),
        node("Relu", ["e"], ["f"]),
        node("Flatten", ["f"], ["g"]),
        node("Gemm", ["g", "f1", "g1"], ["h"], transB=1),
        node("Tanh", ["h"], ["i"]),
        node("Gemm", ["i", "f2", "g2"], ["out"], transB=1),
    ]
    return build(nodes, weights, (1, 12, 12), (4,))


def _separable(weights: Weights) -> onnx.ModelProto:
    tile = [2, 2]
    nodes = [
        node("Conv", ["x", "d", "e"], ["a"], strides=tile, pads=[1] * 4, group=3),
        node("Conv", ["a", "p"], ["b"]),
        node("LeakyRelu", ["b"], ["c"], alpha=0.1),
        node("Conv", ["c", "q"], ["h"], dilations=tile, pads=[2] * 4, group=2),
        node("AveragePool", ["h"], ["i"], kernel_shape=tile, strides=tile),
        node("GlobalAveragePool", ["i"], ["j"]),
        node("Flatten", ["j"], ["k"]),
        node("Gemm", ["k", "f", "g"], ["out"], transB=1),
    ]
    return build(nodes, weights, (3, 8, 8), (3,))


def _sensor(weights: Weights) -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "c1", "b1"], ["a"], strides=[2]),
        node("Sigmoid", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[2], strides=[2]),
        node("Conv", ["c", "c2", "b2"], ["d"], pads=[1, 1]),
        node("Elu", ["d"], ["e"]),
        node("Flatten", ["e"], ["h"]),
        node("Gemm", ["h", "f", "g"], ["out"], transB=1),
    ]
    return build(nodes, weights, (3, 20), (2,))


def _tied(weights: Weights) -> onnx.ModelProto:
    nodes = [
        node("Gemm", ["x", "w", "b"], ["a"], transB=1),
        node("Sigmoid", ["a"], ["h"]),
        node("MatMul", ["h", "w"], ["m"]),
        node("Add", ["m", "c"], ["out"]),
    ]
    return build(nodes, weights, (7,), (7,))


def _linear(weights: Weights) -> onnx.ModelProto:
    nodes = [node("Gemm", ["x", "f", "g"], ["out"], transB=1)]
    return build(nodes, weights, (9,), (5,))


ARCHITECTURES: dict[str, Callable[[Weights], onnx.ModelProto]] = {
    "lenet": _lenet,
    "separable": _separable,
    "sensor": _sensor,
    "tied": _tied,
    "linear": _linear,
}


def _array(entry: Mapping[str, Any], dtype: type[np.generic]) -> NDArray[np.generic]:
    return np.array(entry["values"], dtype).reshape(entry["shape"])


def _compiled(name: str) -> tuple[Bundle, dict[str, NDArray[np.generic]]]:
    vector = VECTORS[name]
    weights = {
        key: _array(entry, np.float32) for key, entry in vector["weights"].items()
    }
    bundle = compile_model(ARCHITECTURES[name](weights), loss=vector["loss"])
    labels = np.int64 if vector["loss"] == "cross-entropy" else np.float32
    batch = {
        "theta": bundle.theta,
        "x": _array(vector["x"], np.float32),
        "y": _array(vector["y"], labels),
    }
    return bundle, batch


def _run(
    graph: bytes, inputs: Mapping[str, NDArray[np.generic]]
) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    results: list[NDArray[np.float32]] = session.run(None, dict(inputs))
    return results


def test_every_vector_has_its_architecture() -> None:
    assert set(VECTORS) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradient_and_losses_equal_pytorch(name: str) -> None:
    bundle, batch = _compiled(name)

    gradient, losses = _run(bundle.standalone(GRADIENT), batch)

    expected = np.array(VECTORS[name]["gradient"])
    scale = float(np.linalg.norm(expected))
    assert float(np.linalg.norm(gradient - expected)) <= TOLERANCE * scale
    np.testing.assert_allclose(losses, VECTORS[name]["losses"], rtol=TOLERANCE)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_norms_equal_pytorch_and_a_low_clip_scales_every_example(name: str) -> None:
    bundle, batch = _compiled(name)
    norms = np.array(VECTORS[name]["norms"])
    clip = np.array(norms.min() / 2, np.float32)

    clipped, _, found = _run(
        bundle.standalone(PRIVATE_GRADIENT), {**batch, "clip": clip}
    )

    np.testing.assert_allclose(found, norms, rtol=TOLERANCE)
    bound = len(norms) * float(clip) * (1 - clip_margin(bundle.manifest.dimension))
    assert float(np.linalg.norm(clipped)) <= bound * (1 + TOLERANCE)
