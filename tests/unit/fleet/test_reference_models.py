"""The models are valid ONNX of the stated size, and the same for the same seed."""

import math

import numpy as np
import onnxruntime
import pytest

from starling.fleet.reference_models import build_model
from starling.protocol.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("softmax", (64,), 650),
        ("softmax", (8, 8), 650),
        ("mlp", (64,), 64 * 32 + 32 + 330),
        ("cnn", (1, 28, 28), 21_840),
    ],
)
def test_build_model_runs_and_has_the_stated_size(
    name: str, shape: tuple[int, ...], parameters: int
) -> None:
    model = build_model(name, shape, 10, np.random.default_rng(0))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (logits,) = session.run(None, {"x": np.ones((3, *shape), np.float32)})
    assert sum(math.prod(t.dims) for t in model.graph.initializer) == parameters
    assert logits.shape == (3, 10)
    assert (logits == 0).all()


def test_build_model_same_seed_gives_the_same_bytes() -> None:
    first, second, other = (
        build_model("mlp", (4,), 2, np.random.default_rng(seed)).SerializeToString()
        for seed in (1, 1, 2)
    )
    assert first == second != other


@pytest.mark.parametrize(("name", "shape"), [("resnet", (4,)), ("cnn", (64,))])
def test_build_model_unfit_names_the_flag(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="--model"):
        build_model(name, shape, 10, np.random.default_rng(0))
