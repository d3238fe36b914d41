"""Discrete Laplace noise and Poisson samples have the exact law.

Streams are seeded, so that no test is flaky; the odds say how often a right sampler
would fail under a fresh seed.
"""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, chi2, kstwo, laplace, norm

from starling.agent.privacy import discrete_samplers
from starling.agent.privacy.discrete_samplers import discrete_laplace
from starling.agent.privacy.noise_mechanisms import draw_sample
from starling.protocol.learning.task import MICRO
from tests.unit.agent.goodness_of_fit import chi_square, stream

ODDS = 1e-6


def goodness(sample: NDArray[np.int64], scale: float) -> float:
    """The chi-square test's p-value against the exact law, tails pooled."""
    edge = math.ceil(6 * scale)
    return chi_square(sample, lambda x: np.exp(-np.abs(x) / scale), edge)


@pytest.mark.parametrize("scale", [1, 2, 3, 10, 29])
def test_discrete_laplace_of_small_scale_has_the_exact_law(scale: int) -> None:
    # Odds 1e-6 each.
    assert goodness(discrete_laplace(scale, 400_000, stream(scale)), scale) > ODDS


@pytest.mark.parametrize("error", ["rounded Laplace", "scale", "bias"])
def test_goodness_finds_a_wrong_law(error: str) -> None:
    rng = np.random.default_rng(1)
    count = 400_000
    shifted = rng.random(count) < 0.05
    sample, scale = {
        "rounded Laplace": (np.rint(rng.laplace(0, 1, count)).astype(np.int64), 1.0),
        "scale": (discrete_laplace(10, count, stream(2)), 10.3),
        "bias": (discrete_laplace(2, count, stream(3)) + shifted, 2.0),
    }[error]
    assert goodness(sample, scale) < ODDS


@pytest.mark.parametrize("scale", [10**4 + 7, 31_355_309_806, 1 << 52])
def test_discrete_laplace_of_large_scale_is_nearly_continuous(scale: int) -> None:
    # Odds 1e-6; a grid of 1/scale moves the distance by less than 1e-4.
    count = 200_000
    ordered = np.sort(discrete_laplace(scale, count, stream(scale)) / scale)
    ranks = np.arange(count)
    law = laplace.cdf(ordered)
    distance = max((law - ranks / count).max(), ((ranks + 1) / count - law).max())
    assert distance - 1e-4 < kstwo.isf(ODDS, count)


@pytest.mark.parametrize(("offset", "scale"), [(1, 3), (12_345, 31_355_309), (5, 7)])
def test_laplace_proposal_at_its_threshold_is_decided_exactly(
    offset: int, scale: int
) -> None:
    least, most = discrete_samplers._exp_bounds(offset, scale, 64)
    jump = (1 << 64) - 1  # a uniform number near one: no jump
    place = offset << 1
    kept: list[int] = []
    for word in range(least - 1, most + 2):
        words = np.array([jump, place, word], "<u8").tobytes()
        further = iter([words, *(1000 * [b"\0" * 8])])

        def draw(size: int, further: object = further) -> bytes:
            assert hasattr(further, "__next__")
            return bytes(further.__next__())[:size]

        kept.append(discrete_samplers._propose_laplace(scale, 1, draw).size)
    # Zeros follow, so that a word counts as long as it does not pass the threshold.
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == 1
    assert kept[-1] == 0


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_sample_takes_each_record_at_its_rate_and_independently(rate: float) -> None:
    # Odds 1e-6 for each of the three.
    count, draws = 200, 2000
    draw = stream(round(1000 * rate))
    taken = np.zeros((draws, count))
    for row in taken:
        row[draw_sample(count, round(rate * MICRO), draw)] = 1
    total = int(taken.sum())
    law = binom(count * draws, rate)
    assert law.ppf(ODDS / 2) <= total <= law.isf(ODDS / 2)
    spread = (taken.sum(axis=0) - draws * rate) ** 2 / (draws * rate * (1 - rate))
    assert ODDS < chi2.cdf(spread.sum(), count) < 1 - ODDS
    pairs = ((taken[:, 1:] - rate) * (taken[:, :-1] - rate)).mean()
    error = rate * (1 - rate) / math.sqrt(draws * (count - 1))
    assert abs(pairs) < norm.isf(ODDS / 2) * error


def test_sample_at_full_rate_takes_all_and_draws_nothing() -> None:
    def draw(size: int) -> bytes:
        raise AssertionError(size)

    assert draw_sample(5, MICRO, draw).tolist() == [0, 1, 2, 3, 4]


def test_sample_compares_with_the_rate_rounded_down() -> None:
    threshold = (300_000 << 64) // MICRO
    words = np.array([threshold - 1, threshold, 0, (1 << 64) - 1], "<u8").tobytes()
    assert draw_sample(4, 300_000, lambda _: words).tolist() == [0, 2]
