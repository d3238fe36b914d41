"""Known epsilons, rounding towards the larger one, and what discrete noise adds."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from starling.protocol.errors import ConfigError
from starling.protocol.privacy.gaussian_dp import (
    CHARGE_MAX,
    CHARGE_ONE,
    MICRO,
    SIGMA_MICRO_MAX,
    SIGMA_MICRO_MIN,
    SLACK_PER_CHARGE,
    Budget,
    charge_from_sigma,
    charge_max,
    epsilon_from_charge,
    gaussian_delta,
    gaussian_epsilon,
    noise_multiplier,
    zcdp_epsilon,
)

VECTORS = json.loads(
    (Path(__file__).parents[3] / "vectors" / "privacy_epsilon.json").read_text()
)

sigmas = st.integers(SIGMA_MICRO_MIN, 1000 * MICRO)
deltas = st.sampled_from([1e-3, 1e-5, 1e-9])
budgets = st.builds(Budget, st.floats(0.01, 50.0), deltas)


def test_gaussian_epsilon_against_oracles_is_never_below_and_within_1e_6() -> None:
    for row in VECTORS:
        mu = math.sqrt(row["releases"]) / float(row["sigma"])
        epsilon = gaussian_epsilon(mu, float(row["delta"]))
        assert float(row["exact"]) <= epsilon, row
        assert float(row["dp_accounting"]) <= epsilon, row
        assert epsilon - float(row["exact"]) <= 1e-6, row


def test_epsilon_from_charge_against_oracle_adds_at_most_the_slack() -> None:
    for row in VECTORS:
        each = charge_from_sigma(round(float(row["sigma"]) * MICRO))
        total = row["releases"] * each
        epsilon = epsilon_from_charge(total, float(row["delta"]))
        exact = float(row["exact"])
        assert exact <= epsilon <= exact + 1e-6 * (1 + total / CHARGE_ONE), row


@pytest.mark.parametrize("total", [1, 100, 1000])
def test_epsilon_from_charge_adds_what_discrete_noise_may_cost(total: int) -> None:
    epsilon = epsilon_from_charge(total * CHARGE_ONE, 1e-5)
    curve = gaussian_epsilon(math.sqrt(total), 1e-5)
    assert epsilon - curve == pytest.approx(total * SLACK_PER_CHARGE, rel=0.01)


@pytest.mark.parametrize(
    ("epsilon", "sigma"),
    [(0.5, 22.24), (1.0, 11.80), (2.0, 6.305), (4.0, 3.419), (8.0, 1.898)],
)
def test_noise_multiplier_for_ten_releases_is_the_published_one(
    epsilon: float, sigma: float
) -> None:
    found = noise_multiplier(Budget(epsilon, 1e-5), releases=10) / MICRO
    assert found == pytest.approx(sigma, rel=3e-4)


def test_zcdp_epsilon_of_ten_releases_is_the_published_one_at_most() -> None:
    # Google's accountant searches a grid of orders and states 1.3085.
    assert zcdp_epsilon(0.05, 1e-5) == pytest.approx(1.3085, rel=5e-4)
    assert zcdp_epsilon(0.05, 1e-5) < 1.3085


@given(st.floats(0.0, 40.0), st.floats(0.05, 8.0))
def test_gaussian_delta_is_above_the_plain_formula(epsilon: float, mu: float) -> None:
    first = norm.cdf(mu / 2 - epsilon / mu)
    second = math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
    assert gaussian_delta(epsilon, mu) >= first - second - 1e-13 * first
    assert gaussian_delta(epsilon, mu) <= first - second + 1e-10 * first + 1.01e-300


@given(st.floats(0.0, 60.0), st.floats(0.0, 60.0))
def test_gaussian_epsilon_grows_with_mu(first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert gaussian_epsilon(low, 1e-5) <= gaussian_epsilon(high, 1e-5)


@given(st.floats(1e-3, 30.0), deltas)
def test_zcdp_epsilon_is_never_below_the_gaussian_curve(
    mu: float, delta: float
) -> None:
    assert zcdp_epsilon(mu * mu / 2, delta) >= gaussian_epsilon(mu, delta) - 1e-8


@given(sigmas, st.integers(1, 8))
def test_charge_from_sigma_is_rounded_up_by_less_than_a_unit(
    sigma_micro: int, windows: int
) -> None:
    charge = charge_from_sigma(sigma_micro, windows)
    exact = CHARGE_ONE * (windows * MICRO) ** 2
    assert charge * sigma_micro**2 >= exact > (charge - 1) * sigma_micro**2


@settings(deadline=None)  # a search of milliseconds, on a busy machine
@given(budgets)
def test_charge_max_is_the_largest_within_budget(budget: Budget) -> None:
    most = charge_max(budget)
    assert epsilon_from_charge(most, budget.delta) <= budget.epsilon
    # Steps below a millionth are lost in the tolerance of the search for epsilon.
    beyond = most + most // 10**6 + 10
    assert epsilon_from_charge(beyond, budget.delta) > budget.epsilon


@settings(deadline=None)  # a search of milliseconds, on a busy machine
@given(budgets, st.integers(1, 100), st.integers(1, 4))
def test_noise_multiplier_is_the_least_that_keeps_within_budget(
    budget: Budget, releases: int, windows: int
) -> None:
    sigma_micro = noise_multiplier(budget, releases, windows)
    most = charge_max(budget)
    assert releases * charge_from_sigma(sigma_micro, windows) <= most
    assert (
        sigma_micro == SIGMA_MICRO_MIN
        or releases * charge_from_sigma(sigma_micro - 1, windows) > most
    )


def test_epsilon_from_charge_at_the_ends() -> None:
    assert epsilon_from_charge(0, 1e-5) == 0.0
    assert epsilon_from_charge(CHARGE_MAX + 1, 1e-5) == math.inf
    assert epsilon_from_charge(CHARGE_MAX, 1e-5) < math.inf


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [
        (0.0, 1e-5),
        (-1.0, 1e-5),
        (math.nan, 1e-5),
        (math.inf, 1e-5),
        (1001.0, 1e-5),
        (1.0, 0.0),
        (1.0, 1.0),
        (1.0, math.nan),
    ],
)
def test_budget_out_of_bounds_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(ConfigError):
        Budget(epsilon, delta)


@pytest.mark.parametrize(
    ("sigma_micro", "windows"),
    [(0, 1), (SIGMA_MICRO_MIN - 1, 1), (SIGMA_MICRO_MAX + 1, 1), (MICRO, 0)],
)
def test_charge_of_an_impossible_release_is_refused(
    sigma_micro: int, windows: int
) -> None:
    with pytest.raises(ConfigError):
        charge_from_sigma(sigma_micro, windows)


@pytest.mark.parametrize("releases", [0, (1 << 20) + 1])
def test_noise_multiplier_for_a_bad_number_of_releases_is_refused(
    releases: int,
) -> None:
    with pytest.raises(ConfigError):
        noise_multiplier(Budget(1.0, 1e-5), releases)


def test_noise_multiplier_beyond_all_noise_is_refused() -> None:
    with pytest.raises(ConfigError, match="more noise"):
        noise_multiplier(Budget(1e-6, 1e-12), 1 << 20)


# What follows recomputes, for small scales, what docs/privacy.md proves for all.


def discrete_gaussian(scale: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Support and probabilities, cut off where they are below 1e-40."""
    x = np.arange(-14 * scale - 1, 14 * scale + 2)
    weight = np.exp(-(x.astype(np.float64) ** 2) / (2 * scale**2))
    return x, weight / weight.sum()


@pytest.mark.parametrize("scale", [1, 2, 3, 7, 20])
def test_discrete_gaussian_tails_lie_between_those_of_the_continuous_one(
    scale: int,
) -> None:
    x, pmf = discrete_gaussian(scale)
    above = np.cumsum(pmf[::-1])[::-1]
    for m in range(1, 6 * scale):
        tail = above[int(np.searchsorted(x, m))]
        assert norm.sf(m / scale) <= tail <= norm.sf((m - 1) / scale)


def exact_delta(scale: int, shift: int, releases: int, epsilon: float) -> float:
    """Hockey-stick divergence of equal releases of noise against shifted noise."""
    _, pmf = discrete_gaussian(scale)
    total = pmf
    for _ in range(releases - 1):
        total = np.convolve(total, pmf)
    sums = np.arange(total.size) - total.size // 2
    loss = (2 * sums * shift + releases * shift**2) / (2 * scale**2)
    return float((total * np.maximum(0.0, -np.expm1(epsilon - loss))).sum())


@pytest.mark.parametrize(
    ("scale", "shift", "releases"),
    [(1, 1, 1), (2, 1, 1), (3, 1, 5), (2, 3, 2), (10, 7, 3), (40, 2, 12), (5, 5, 10)],
)
def test_discrete_noise_is_within_the_shifted_gaussian_curve(
    scale: int, shift: int, releases: int
) -> None:
    mu = math.sqrt(releases) * shift / scale
    slack = releases * shift / scale**2
    for epsilon in np.linspace(slack, slack + 5 * mu + mu * mu, 40):
        bound = gaussian_delta(float(epsilon) - slack, mu)
        assert exact_delta(scale, shift, releases, float(epsilon)) <= bound + 1e-15


def test_discrete_noise_of_small_scale_exceeds_the_curve_without_the_shift() -> None:
    # Else the test above could not fail.
    epsilons = np.linspace(0.0, 3.0, 200)
    assert any(
        exact_delta(1, 1, 1, e) > 1.05 * gaussian_delta(e, 1.0) for e in epsilons
    )


def test_adaptive_noise_is_within_the_curve_of_its_total() -> None:
    # The second release looks at the first and takes the noise that suits it, but both
    # choices cost the same: 9 / 36 = 16 / 64.
    first_x, first_pmf = discrete_gaussian(4)
    total = 4 / 16 + 0.25
    slack = 2 / 16 + max(3 / 36, 4 / 64)
    second = {True: (6, 3), False: (8, 4)}
    for epsilon in np.linspace(slack, slack + 4, 30):
        delta = 0.0
        for x, p in zip(first_x, first_pmf, strict=True):
            spent = (2 * int(x) * 2 + 4) / 32
            scale, shift = second[bool(x > 0)]
            delta += p * exact_delta(scale, shift, 1, float(epsilon) - spent)
        assert delta <= gaussian_delta(float(epsilon) - slack, math.sqrt(total)) + 1e-15
