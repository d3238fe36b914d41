"""Models as PyTorch exports them: they compile, and the gradients are PyTorch's.

The models and what they must give come from `tests/vectors/exported_models.py`.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from starling.compiler import Bundle, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE
from starling.protocol.model.training_bundle import (
    EVALUATE,
    GRADIENT,
    PRIVATE_GRADIENT,
    LossSettings,
)
from starling.protocol.privacy.clipping_functions import clip_margin

VECTORS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "exported_models.json").read_text()
)
Batch = dict[str, NDArray[np.generic]]


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def _array(entry: Mapping[str, Any]) -> NDArray[np.generic]:
    flat = np.frombuffer(_unpacked(entry["packed"]), entry["dtype"])
    return flat.reshape(entry["shape"])


@cache
def _bundle(name: str) -> Bundle:
    vector = VECTORS[name]
    given = vector["settings"]
    settings = LossSettings(
        tuple(given.get("class_weights", ())),
        given.get("label_smoothing", 0.0),
        given.get("delta", 1.0),
    )
    model = _unpacked(vector["model"])
    return compile_model(model, loss=vector["loss"], settings=settings)


def _batch(name: str) -> Batch:
    vector = VECTORS[name]
    x, y = _array(vector["x"]), _array(vector["y"])
    return {"theta": _bundle(name).theta, "x": x, "y": y}


def _run(bundle: Bundle, file: str, batch: Batch) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        bundle.standalone(file), options, providers=["CPUExecutionProvider"]
    )
    results: list[NDArray[np.float32]] = session.run(None, batch)
    return results


def _relative(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    difference = np.linalg.norm(found.astype(np.float64) - expected.astype(np.float64))
    return float(difference / np.linalg.norm(expected))


def _expected(name: str) -> NDArray[np.generic]:
    parts = VECTORS[name]["gradient"]
    rows = [
        _array(parts[item.name]).reshape(-1)
        for item in _bundle(name).manifest.parameters
    ]
    return np.concatenate(rows)


@pytest.mark.parametrize("name", VECTORS)
def test_gradient_and_losses_equal_pytorch(name: str) -> None:
    gradient, losses = _run(_bundle(name), GRADIENT, _batch(name))

    assert _relative(gradient, _expected(name)) <= TOLERANCE
    np.testing.assert_allclose(losses, VECTORS[name]["losses"], rtol=TOLERANCE)


@pytest.mark.parametrize("name", VECTORS)
def test_norms_equal_pytorch_and_no_example_exceeds_the_clip(name: str) -> None:
    bundle, batch = _bundle(name), _batch(name)
    norms = np.array(VECTORS[name]["norms"])
    clip = np.array(norms.min() / 2, np.float32)

    wide = _run(bundle, PRIVATE_GRADIENT, {**batch, "clip": np.array(1e6, np.float32)})
    low = _run(bundle, PRIVATE_GRADIENT, {**batch, "clip": clip})

    np.testing.assert_allclose(low[2], norms, rtol=TOLERANCE)
    assert _relative(wide[0], _expected(name)) <= TOLERANCE
    bound = len(norms) * float(clip) * (1 - clip_margin(bundle.manifest.dimension))
    assert np.linalg.norm(low[0]) <= bound * (1 + TOLERANCE)


@pytest.mark.parametrize("name", VECTORS)
def test_evaluation_at_another_batch_size_gives_the_same_losses(name: str) -> None:
    batch = _batch(name)
    doubled = {
        key: value if key == "theta" else np.concatenate([value, value, value])
        for key, value in batch.items()
    }

    losses = _run(_bundle(name), EVALUATE, doubled)[0]

    np.testing.assert_allclose(losses, VECTORS[name]["losses"] * 3, rtol=TOLERANCE)
