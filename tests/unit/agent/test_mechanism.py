"""The sampler has the exact law, and one record moves the sum by no more than charged.

Streams are seeded, so that no test is flaky; the odds say how often a right sampler
would fail under a fresh seed.
"""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kstwo, norm

from agent import sampler
from agent.mechanism import clipped_sum, private_sum
from agent.sampler import discrete_gaussian
from protocol.errors import ConfigError, NonFinite, NormExceeded
from protocol.noise import noise_grid
from tests.unit.agent.law import Draw, chi_square, stream

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
        lazy = sampler._LazyUniform(word, 64, _repeating(tail))
        assert lazy.is_below_exp(numerator, denominator) == below
    if threshold:
        lazy = sampler._LazyUniform(threshold - 1, 64, _repeating(b"\xff"))
        assert lazy.is_below_exp(numerator, denominator)


def _repeating(byte: bytes) -> Draw:
    return lambda size: byte * size


def slow_geometric(word: int, draw: Draw) -> int:
    lazy = sampler._LazyUniform(word, 64, draw)
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
        lazy = sampler._LazyUniform(third, 64, draw)
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

    fast = sampler._propose(scale, count, draw)
    assert fast.tolist() == slow_propose(scale, words, draw)


def test_private_sum_without_its_noise_is_the_rounded_sum() -> None:
    clipped = np.random.default_rng(3).normal(0, 1, 500)
    released = private_sum(clipped, CLIP_Q24, SIGMA, stream(9))
    grid = noise_grid(CLIP_Q24, SIGMA, 500)
    noise = discrete_gaussian(grid.scale, 500, stream(9))
    rounded = np.rint(clipped / 2.0**grid.exponent).astype(np.int64)
    assert released.exponent == grid.exponent
    assert released.values.dtype == np.int64
    np.testing.assert_array_equal(released.values - noise, rounded)


def test_private_sum_noise_has_the_charged_deviation() -> None:
    # Odds 1e-6.
    count = 100_000
    released = private_sum(np.zeros(count), CLIP_Q24, SIGMA, stream(4))
    real = released.values * 2.0**released.exponent / (CLIP * 2.0)
    excess = (real**2).mean() - 1
    # The charged sensitivity is up to 0.2 % above the clip, never below.
    spread = norm.isf(ODDS / 2) * math.sqrt(2 / count)
    assert -spread < excess < 0.005 + spread


@pytest.mark.parametrize(
    ("clipped", "clip_q24", "sigma_micro", "error"),
    [
        (np.array([0.0, np.nan]), CLIP_Q24, SIGMA, NonFinite),
        (np.array([0.0, -np.inf]), CLIP_Q24, SIGMA, NonFinite),
        (np.array([0.0, 1e30]), CLIP_Q24, SIGMA, NormExceeded),
        (np.array([0.0]), 0, SIGMA, ConfigError),
        (np.array([0.0]), CLIP_Q24, 0, ConfigError),
        (np.array([]), CLIP_Q24, SIGMA, ConfigError),
    ],
    ids=["nan", "infinity", "huge", "no clip", "no noise", "no parameters"],
)
def test_private_sum_of_unusable_input_is_refused(
    clipped: NDArray[np.float64],
    clip_q24: int,
    sigma_micro: int,
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        private_sum(clipped, clip_q24, sigma_micro, stream(1))


def logistic(
    shapes: list[int],
) -> Callable[
    [NDArray[np.float32], NDArray[np.int64]],
    tuple[NDArray[np.float32], NDArray[np.float32]],
]:
    """Private gradient of a fixed logistic model in float32; notes the rows it got."""
    theta = np.linspace(-1, 1, 40, dtype=np.float32)

    def step(
        x: NDArray[np.float32], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        shapes.append(len(x))
        chance = 1 / (1 + np.exp(-(x * theta).sum(1)))
        rows = (chance - y).astype(np.float32)[:, None] * (x + np.float32(0.25))
        norms = np.sqrt((rows * rows).sum(1))
        limit = np.float32(CLIP * (1 - 2.0**-12))
        scale = np.minimum(np.float32(1), limit / np.maximum(norms, np.float32(1e-30)))
        return scale.astype(np.float32) @ rows, norms

    return step


def records(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(8)
    x = rng.normal(0, 1, (count, 40)).astype(np.float32)
    return x, rng.integers(0, 2, count)


@pytest.mark.parametrize("count", [1, 7, 8, 50])
@pytest.mark.parametrize("micro_batch", [1, 8, 64])
def test_clipped_sum_is_that_of_single_records(count: int, micro_batch: int) -> None:
    shapes: list[int] = []
    x, y = records(count)
    total = clipped_sum(logistic(shapes), x, y, micro_batch)
    single = logistic([])
    expected = sum(
        single(x[i : i + 1], y[i : i + 1])[0].astype(np.float64) for i in range(count)
    )
    assert set(shapes) == {micro_batch}
    np.testing.assert_allclose(total, expected, atol=1e-6 * CLIP * 64)


def test_clipped_sum_of_no_records_is_zero() -> None:
    x, y = records(0)
    np.testing.assert_array_equal(clipped_sum(logistic([]), x, y, 8), np.zeros(40))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_record_with_a_non_finite_gradient_counts_as_an_empty_slot(bad: float) -> None:
    x, y = records(30)
    x[17] = bad
    with np.errstate(over="ignore", invalid="ignore"):
        total = clipped_sum(logistic([]), x, y, 8)
    kept = np.delete(np.arange(30), 17)
    expected = clipped_sum(logistic([]), x[kept], y[kept], 8)
    np.testing.assert_allclose(total, expected, atol=1e-6 * CLIP * 64)


def test_one_record_moves_the_released_sum_by_no_more_than_charged() -> None:
    x, y = records(70)
    grid = noise_grid(CLIP_Q24, SIGMA, 40)
    whole = clipped_sum(logistic([]), x, y, 32)
    moved = []
    for index in range(70):
        emptied = x.copy()
        emptied[index] = np.nan
        without = clipped_sum(logistic([]), emptied, y, 32)
        steps = [np.rint(total / 2.0**grid.exponent) for total in (whole, without)]
        moved.append(float(np.linalg.norm(steps[0] - steps[1])))
    assert max(moved) <= grid.sensitivity
    # Clipping bites, so that the bound is not met for want of gradient.
    assert max(moved) > 0.998 * grid.sensitivity


def test_model_without_a_finite_gradient_is_refused() -> None:
    def broken(
        x: NDArray[np.float32], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        del y
        return np.full(3, np.nan, np.float32), np.zeros(len(x), np.float32)

    with pytest.raises(NonFinite):
        clipped_sum(broken, *records(5), 4)
