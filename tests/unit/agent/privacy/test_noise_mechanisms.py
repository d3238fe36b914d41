"""The sampler has the exact law, and one record moves the sum by no more than charged.

Streams are seeded, so that no test is flaky; the odds say how often a right sampler
would fail under a fresh seed.
"""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kstwo, norm

from starling.agent.privacy import discrete_samplers
from starling.agent.privacy.discrete_samplers import discrete_gaussian
from starling.agent.privacy.noise_mechanisms import on_grid, private_sum, within
from starling.protocol.errors import ConfigError, NormExceeded
from starling.protocol.privacy.noise_grid import longest_sum, noise_grid
from tests.unit.agent.goodness_of_fit import Draw, chi_square, stream

ODDS = 1e-6
CLIP_Q24 = 1 << 21
CLIP = CLIP_Q24 / 2**24
SIGMA = 2_000_000


def goodness(sample: NDArray[np.int64], scale: float) -> float:
    """The chi-square test's p-value against the exact law, tails pooled."""
    edge = math.ceil(4 * scale)
    return chi_square(sample, lambda x: np.exp(-(x**2) / (2 * scale**2)), edge)


@pytest.mark.parametrize("scale", [1, 2, 3, 10, 37])
def test_discrete_gaussian_of_small_scale_has_the_exact_law(scale: int) -> None:
    # Odds 1e-6 each.
    sample = discrete_gaussian(scale, 400_000, stream(scale))
    assert goodness(sample, scale) > ODDS


@pytest.mark.parametrize("error", ["rounded normal", "scale", "bias"])
def test_goodness_finds_a_wrong_law(error: str) -> None:
    rng = np.random.default_rng(1)
    count = 400_000
    shifted = rng.random(count) < 0.05
    sample, scale = {
        "rounded normal": (np.rint(rng.normal(0, 1, count)).astype(np.int64), 1.0),
        "scale": (discrete_gaussian(10, count, stream(2)), 10.2),
        "bias": (discrete_gaussian(2, count, stream(3)) + shifted, 2.0),
    }[error]
    assert goodness(sample, scale) < ODDS


@pytest.mark.parametrize("scale", [10**4 + 7, 1_355_309_806, (1 << 52) - 1])
def test_discrete_gaussian_of_large_scale_is_nearly_normal(scale: int) -> None:
    # Odds 1e-6 for each of the three; a grid of 1/scale moves the distance by less
    # than 1e-4.
    count = 200_000
    ordered = np.sort(discrete_gaussian(scale, count, stream(scale)) / scale)
    ranks = np.arange(count)
    law = norm.cdf(ordered)
    distance = max((law - ranks / count).max(), ((ranks + 1) / count - law).max())
    assert distance - 1e-4 < kstwo.isf(ODDS, count)
    deviations = norm.isf(ODDS / 2) / math.sqrt(count)
    assert abs(ordered.mean()) < deviations
    assert abs((ordered**2).mean() - 1) < math.sqrt(2) * deviations


def test_discrete_gaussian_neighbours_are_uncorrelated() -> None:
    # Odds 1e-6.
    count = 200_000
    sample = discrete_gaussian(1000, count, stream(5)) / 1000
    product = (sample[1:] * sample[:-1]).mean()
    assert abs(product) < norm.isf(ODDS / 2) / math.sqrt(count)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_discrete_gaussian_gives_as_many_as_asked_for(count: int) -> None:
    assert discrete_gaussian(5, count, stream(1)).shape == (count,)


def exact_threshold(numerator: int, denominator: int) -> int:
    """Floor of 2^64 exp(-numerator / denominator)."""
    with localcontext() as context:
        context.prec = 60
        power = (-Decimal(numerator) / Decimal(denominator)).exp()
        return math.floor(power * (1 << 64))


@given(st.integers(1, 2000), st.integers(50, 2000))
def test_lazy_uniform_is_decided_by_further_bits_only_at_the_threshold(
    numerator: int, denominator: int
) -> None:
    threshold = exact_threshold(numerator, denominator)
    # exp(-x) never goes on in zeros or in ones alone.
    for word, tail, below in (
        (threshold, b"\0", True),
        (threshold, b"\xff", False),
        (threshold + 1, b"\0", False),
    ):
        lazy = discrete_samplers._LazyUniform(word, 64, _repeating(tail))
        assert lazy.is_below_exp(numerator, denominator) == below
    if threshold:
        lazy = discrete_samplers._LazyUniform(threshold - 1, 64, _repeating(b"\xff"))
        assert lazy.is_below_exp(numerator, denominator)


def _repeating(byte: bytes) -> Draw:
    return lambda size: byte * size


def slow_geometric(word: int, draw: Draw) -> int:
    lazy = discrete_samplers._LazyUniform(word, 64, draw)
    jumps = 0
    while lazy.is_below_exp(jumps + 1, 2):
        jumps += 1
    return jumps


def slow_propose(scale: int, words: list[list[int]], draw: Draw) -> list[int]:
    """One proposal after the other, by exact comparisons alone."""
    kept = []
    for first, second, third in zip(*words, strict=True):
        jump = slow_geometric(first, draw)
        negative, position = second % 2, second // 2
        if position >= (1 << 63) // scale * scale:
            continue
        magnitude = jump * scale + position % scale
        if negative and magnitude == 0:
            continue
        exponent = magnitude**2 - jump * scale**2
        lazy = discrete_samplers._LazyUniform(third, 64, draw)
        if lazy.is_below_exp(exponent, 2 * scale**2):
            kept.append(-magnitude if negative else magnitude)
    return kept


@pytest.mark.parametrize("scale", [1, 3, 1 << 20, (1 << 52) - 1])
def test_fast_proposals_equal_the_slow_twin_at_every_threshold(scale: int) -> None:
    # Words at, below and above every threshold, besides ordinary ones. Further bits
    # are ones, whoever asks first.
    count = 900
    ordinary = np.frombuffer(stream(scale)(24 * count), "<u8").reshape(3, count)
    words = [[int(word) for word in row] for row in ordinary]
    for k in range(1, 88):
        for offset in (-1, 0, 1):
            words[0][3 * k + offset] = exact_threshold(k, 2) + offset
    words[0][:3] = [0, 1, (1 << 64) - 1]
    words[1][400:404] = [0, 1, (1 << 64) - 1, (1 << 64) - 2]
    for index in range(500, 800):
        jump = slow_geometric(words[0][index], lambda n: b"\xff" * n)
        magnitude = jump * scale + words[1][index] // 2 % scale
        exponent = magnitude**2 - jump * scale**2
        words[2][index] = exact_threshold(exponent, 2 * scale**2) + index % 3 - 1
    words[2] = [min(max(word, 0), (1 << 64) - 1) for word in words[2]]
    block = np.array(words, "<u8").tobytes()

    def draw(size: int) -> bytes:
        return block if size == len(block) else b"\xff" * size

    fast = discrete_samplers._propose(scale, count, draw)
    assert fast.tolist() == slow_propose(scale, words, draw)


PLEDGE = 40 * 10**6


def test_private_sum_without_its_noise_is_the_sum() -> None:
    total = np.random.default_rng(3).integers(-(10**9), 10**9, 500)
    released = private_sum(total, CLIP_Q24, SIGMA, PLEDGE * 10**3, stream(9))
    grid = noise_grid(CLIP_Q24, SIGMA, 500)
    noise = discrete_gaussian(grid.scale, 500, stream(9))
    assert released.exponent == grid.exponent
    assert released.values.dtype == np.int64
    np.testing.assert_array_equal(released.values - noise, total)


def test_private_sum_noise_has_the_charged_deviation() -> None:
    # Odds 1e-6.
    count = 100_000
    zeros = np.zeros(count, np.int64)
    released = private_sum(zeros, CLIP_Q24, SIGMA, PLEDGE, stream(4))
    real = released.values * 2.0**released.exponent / (CLIP * 2.0)
    excess = (real**2).mean() - 1
    # The charged sensitivity is up to 10^-5 above the clip, never below.
    spread = norm.isf(ODDS / 2) * math.sqrt(2 / count)
    assert -spread < excess < 1e-5 + spread


@pytest.mark.parametrize(
    ("total", "clip_q24", "sigma_micro"),
    [([0], 0, SIGMA), ([0], CLIP_Q24, 0), ([], CLIP_Q24, SIGMA)],
    ids=["no clip", "no noise", "no parameters"],
)
def test_private_sum_of_unusable_input_is_refused(
    total: list[int], clip_q24: int, sigma_micro: int
) -> None:
    steps = np.array(total, np.int64)
    with pytest.raises(ConfigError):
        private_sum(steps, clip_q24, sigma_micro, PLEDGE, stream(1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_values_beyond_the_grid_are_refused(value: float) -> None:
    with pytest.raises(NormExceeded):
        on_grid(np.array([0.0, value]), -20)


SIZES = st.integers(1, 60)
WIDE = st.integers(-(2**61), 2**61)


def exact_squares(vector: NDArray[np.int64]) -> int:
    """The slow twin: whole numbers of any size."""
    return sum(int(value) ** 2 for value in vector)


@given(st.lists(WIDE, min_size=1, max_size=30), st.integers(1, 2**54))
def test_sum_within_a_radius_is_that_long_and_unturned(
    values: list[int], most: int
) -> None:
    total = np.array(values, np.int64)
    kept = within(total, most)
    if exact_squares(total) <= most**2:
        np.testing.assert_array_equal(kept, total)
        return
    # Rounding adds half a step for each coordinate, float64 a share of 2^-51.
    slack = math.isqrt(len(values)) + 1 + most // 2**50
    assert math.isqrt(exact_squares(kept)) <= most + slack
    length = math.sqrt(exact_squares(total))
    np.testing.assert_allclose(kept, total * (most / length), atol=0.51 + most / 2**50)


@given(SIZES, st.integers(0, 2**32), st.integers(1, 2**40), st.integers(1, 2**30))
def test_no_addend_moves_a_shortened_sum_by_more_than_itself_and_rounding(
    size: int, seed: int, most: int, step: int
) -> None:
    rng = np.random.default_rng(seed)
    total = rng.integers(-2 * most, 2 * most + 1, size)
    # Near the sphere, from inside and outside, where projection begins.
    total = (total * (most / max(1.0, math.sqrt(exact_squares(total))))).astype(int)
    addend = rng.integers(-step, step + 1, size)
    moved = within(total + addend, most) - within(total, most)
    bound = math.sqrt(exact_squares(addend)) + (1 + 2**-9) * math.sqrt(size)
    assert math.sqrt(exact_squares(moved)) <= bound * (1 + 1e-12)


def test_radius_in_steps_is_never_above_pledge_times_clip() -> None:
    for clip_q24, dimension in ((1, 1 << 26), (CLIP_Q24, 21_840), (1 << 40, 1)):
        exponent = noise_grid(clip_q24, SIGMA, dimension).exponent
        steps = longest_sum(clip_q24, exponent, PLEDGE)
        exact = 40 * clip_q24 * 2.0 ** (-24 - exponent)
        assert exact - 1 < steps <= exact
