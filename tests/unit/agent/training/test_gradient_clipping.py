"""The sum of clipped gradients: exact, and each as short as the manifest says."""

import numpy as np
import pytest

from starling.agent.training.gradient_clipping import TOGETHER, Clip, ClippedSum
from starling.protocol.learning.task import Q24
from starling.protocol.privacy.clipping_functions import AUTOMATIC, CLIPPINGS, NORM
from starling.protocol.privacy.noise_grid import noise_grid
from tests.unit.agent.training.hostile_gradients import (
    CLIP_Q24,
    GRID,
    SIGMA,
    STEP,
    D,
)


def test_float64_adds_exactly_as_many_as_it_is_trusted_with() -> None:
    # The finest grid there is: d = 2^26 and a clip in one coordinate.
    widest = noise_grid(CLIP_Q24, SIGMA, 1 << 26)
    assert CLIP_Q24 / Q24 / 2.0**widest.exponent < 2.0**35
    exponent = noise_grid(CLIP_Q24, SIGMA, D).exponent
    found = ClippedSum(1, Clip(CLIP_Q24, NORM, exponent))
    for _ in range(TOGETHER + 3):
        found.add(np.ones(1, np.float32))
    one = ClippedSum(1, Clip(CLIP_Q24, NORM, exponent))
    one.add(np.ones(1, np.float32))

    assert int(found.total()[0]) == (TOGETHER + 3) * int(one.total()[0])


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_scaled_gradient_is_as_the_manifest_says(clipping: str) -> None:
    clip = CLIP_Q24 / Q24
    for norm in (1e-6, 0.05, clip, 3.0, 1e30):
        found = ClippedSum(2, Clip(CLIP_Q24, clipping, GRID.exponent))
        found.add(np.array([0.6 * norm, -0.8 * norm], np.float32))
        scale = clip / (norm + 0.01) if clipping == AUTOMATIC else min(1, clip / norm)
        expected = np.array([0.6, -0.8]) * norm * scale
        np.testing.assert_allclose(found.total() * STEP, expected, rtol=1e-4, atol=STEP)
