"""A batch of large examples is computed in parts, and comes out as at once."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.agent.trainer.engines.onnxruntime_engine import OrtTrainer
from starling.compiler import compile_model
from starling.engine.batch_parts import WORKING_BYTES
from starling.engine.opened_bundle import open_packed
from starling.protocol.errors import EngineError
from tests.unit.compiler.small_models import cnn

OPENED = open_packed(compile_model(cnn(), loss="cross-entropy").packed)
RNG = np.random.default_rng(2)
RECORDS = 8


def trainer(together: int) -> OrtTrainer:
    """An engine for a bundle of which so many examples fit into memory."""
    size = WORKING_BYTES // together
    manifest = replace(OPENED.manifest, example_bytes=size)
    return OrtTrainer(replace(OPENED, manifest=manifest), 1)


def batch(count: int = RECORDS) -> tuple[NDArray[Any], NDArray[Any]]:
    x = RNG.standard_normal((count, *OPENED.manifest.input.shape)).astype(np.float32)
    return x, RNG.integers(0, OPENED.manifest.output.shape[-1], count)


@pytest.mark.parametrize("together", [1, 3, 5, 7])
def test_batch_in_parts_comes_out_as_at_once(together: int) -> None:
    parts, whole, (x, y) = trainer(together), trainer(RECORDS), batch()
    theta = OPENED.theta

    found = (
        *parts.gradient_sum(theta, x, y),
        *parts.private_gradient_sum(theta, x, y, 0.5),
        *parts.evaluate(theta, x, y),
        parts.infer(theta, x),
    )

    expected = (
        *whole.gradient_sum(theta, x, y),
        *whole.private_gradient_sum(theta, x, y, 0.5),
        *whole.evaluate(theta, x, y),
        whole.infer(theta, x),
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_sum_of_parts_is_the_callers_to_keep() -> None:
    parts, (x, y) = trainer(3), batch()

    first = parts.gradient_sum(OPENED.theta, x, y)[0]
    kept = first.copy()
    parts.gradient_sum(OPENED.theta, -x, y)

    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("together", [3, RECORDS])
def test_targets_that_are_not_as_many_are_refused(together: int) -> None:
    x, y = batch()

    for call in (trainer(together).gradient_sum, trainer(together).evaluate):
        with pytest.raises(EngineError):
            call(OPENED.theta, x, y[:-1])
