"""The grid is fine enough, the noise large enough, and the radius holds and bites."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ncx2

from starling.protocol.errors import ConfigError
from starling.protocol.learning.vector_codecs import (
    CODECS,
    GridVector,
    norm_squared,
)
from starling.protocol.privacy.gaussian_dp import MICRO, SIGMA_MICRO_MIN
from starling.protocol.privacy.noise_grid import (
    CLIP_Q24_MAX,
    DIMENSION_MAX,
    GRID_BITS,
    NoiseGrid,
    noise_grid,
    norm_radius,
)

CLIP = 1677722  # 0.1
SIGMA = 6304990  # epsilon 2 in ten releases

clips = st.integers(1, CLIP_Q24_MAX)
dimensions = st.integers(1, DIMENSION_MAX)


@pytest.mark.parametrize(
    ("clip_q24", "sigma_micro", "dimension", "grid"),
    [
        (CLIP, SIGMA, 21_840, NoiseGrid(-31, 214_748_712, 1_353_988_482)),
        (1 << 24, MICRO, 1, NoiseGrid(-20, 1_048_578, 1_048_578)),
        (1, SIGMA_MICRO_MIN, 1 << 26, NoiseGrid(-57, 8_589_950_976, 171_799_020)),
    ],
)
def test_noise_grid_gives_the_known_answers(
    clip_q24: int, sigma_micro: int, dimension: int, grid: NoiseGrid
) -> None:
    assert noise_grid(clip_q24, sigma_micro, dimension) == grid


@given(clips, dimensions)
def test_noise_grid_is_the_coarsest_that_is_fine_enough(
    clip_q24: int, dimension: int
) -> None:
    exponent = noise_grid(clip_q24, MICRO, dimension).exponent
    limit = (Fraction(clip_q24, 1 << 24) / 2**GRID_BITS) ** 2
    assert dimension * Fraction(2) ** (2 * exponent) <= limit
    assert dimension * Fraction(2) ** (2 * exponent + 2) > limit


@given(clips, st.integers(SIGMA_MICRO_MIN, 10**9), dimensions)
def test_noise_grid_charges_clip_and_roundings(
    clip_q24: int, sigma_micro: int, dimension: int
) -> None:
    grid = noise_grid(clip_q24, sigma_micro, dimension)
    clip_steps = Fraction(clip_q24, 1 << 24) / Fraction(2) ** grid.exponent
    rest = grid.sensitivity - clip_steps
    assert rest >= 0
    # A record's rounding, two of shortened sums, and what float64 adds to these.
    roundings = Fraction(3, 2) + 2 * Fraction(1, 1 << 10)
    assert rest**2 >= roundings**2 * dimension
    assert grid.scale * MICRO >= sigma_micro * grid.sensitivity
    # The shift in epsilon that the ledger's slack has to cover.
    shift = math.sqrt(dimension) * grid.sensitivity / grid.scale**2
    assert shift <= 2.0**-GRID_BITS * (MICRO / sigma_micro) ** 2


@pytest.mark.parametrize(
    ("clip_q24", "sigma_micro", "dimension"),
    [
        (0, MICRO, 1),
        (CLIP_Q24_MAX + 1, MICRO, 1),
        (1, 0, 1),
        (1, MICRO, 0),
        (1, MICRO, DIMENSION_MAX + 1),
    ],
)
def test_noise_grid_out_of_bounds_is_refused(
    clip_q24: int, sigma_micro: int, dimension: int
) -> None:
    with pytest.raises(ConfigError):
        noise_grid(clip_q24, sigma_micro, dimension)


def honest_update(signal: np.ndarray, seed: int, codec: int) -> np.ndarray:
    """What a coordinator decodes, with continuous noise in place of the discrete."""
    rng = np.random.default_rng(seed)
    grid = noise_grid(CLIP, SIGMA, signal.size)
    noise = np.rint(rng.normal(0.0, grid.scale, signal.size)).astype(np.int64)
    steps = np.rint(np.ldexp(signal, -grid.exponent)).astype(np.int64)
    vector = GridVector(steps + noise, grid.exponent)
    return CODECS[codec].decode(CODECS[codec].encode(vector, rng.bytes), signal.size)


@pytest.mark.parametrize("dimension", [650, 6_490, 21_840])
@pytest.mark.parametrize("pledge", [100, 600, 5_000])
@pytest.mark.parametrize("spread", ["one coordinate", "all coordinates"])
@pytest.mark.parametrize("codec", CODECS)
def test_norm_radius_holds_honest_updates_and_is_near(
    dimension: int, pledge: int, spread: str, codec: int
) -> None:
    # Odds of a failure: below 1e-9 by the bound's own claim.
    norm = pledge * CLIP / 2**24
    signal = np.zeros(dimension)
    if spread == "one coordinate":
        signal[3] = norm
    else:
        signal[:] = norm / math.sqrt(dimension)
    length = math.sqrt(norm_squared(honest_update(signal, 7, codec)))
    radius = norm_radius(CLIP, SIGMA, dimension, pledge, codec)
    assert 0.6 * radius < length < radius


@pytest.mark.parametrize("dimension", [1, 650, 21_840])
@pytest.mark.parametrize("pledge", [1, 600, 50_000])
def test_norm_radius_is_above_the_exact_quantile(dimension: int, pledge: int) -> None:
    deviation = noise_grid(CLIP, SIGMA, dimension).deviation
    offset = (pledge * CLIP / 2**24 / deviation) ** 2
    quantile = deviation * math.sqrt(float(ncx2.isf(1e-9, dimension, offset)))
    radius = norm_radius(CLIP, SIGMA, dimension, pledge, 1) / 2**24
    assert quantile < radius < 1.45 * quantile


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_norm_radius_grows_with_the_pledge(first: int, second: int) -> None:
    low, high = sorted((first, second))
    one, other = (norm_radius(CLIP, SIGMA, 650, at, 1) for at in (low, high))
    assert one <= other
