"""Renyi costs against quadrature and Google's accountant, and what filters rest on."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starling.protocol.errors import ConfigError
from starling.protocol.privacy.gaussian_dp import (
    CHARGE_ONE,
    MICRO,
    Budget,
    charge_from_sigma,
)
from starling.protocol.privacy.renyi_dp import (
    COST_MAX,
    ORDERS,
    PURE,
    gaussian_costs,
    plus,
    pure_costs,
    renyi_epsilon,
    renyi_max,
    sampled_costs,
    sampled_divergence,
    times,
)

VECTORS = json.loads(
    (Path(__file__).parents[3] / "vectors" / "privacy_sampled.json").read_text()
)


def micro(text: str) -> int:
    return round(float(text) * MICRO)


@pytest.mark.parametrize(
    "row",
    VECTORS["moments"],
    ids=lambda row: f"{row['rate']}-{row['sigma']}-{row['order']}",
)
def test_sampled_divergence_against_quadrature_is_never_below(
    row: dict[str, str],
) -> None:
    found = sampled_divergence(
        float(row["rate"]), float(row["sigma"]), float(row["order"])
    )
    exact = float(row["divergence"])
    assert exact <= found <= exact * (1 + 1e-7) + 1e-12


@pytest.mark.parametrize("row", VECTORS["schedules"], ids=str)
def test_renyi_epsilon_is_close_to_google_s_and_above_its_exact_one(
    row: dict[str, Any],
) -> None:
    costs = sampled_costs(micro(row["sigma"]), micro(row["rate"]), row["total"])
    epsilon = renyi_epsilon(costs, float(row["delta"]))
    most = 1.005 if row["total"] <= 1000 else 1.01
    # Google's series of some low orders does not converge, so that they are left out.
    assert 0.9975 * row["rdp"] <= epsilon <= most * row["rdp"]
    assert epsilon >= row["pld"]


def test_full_sampling_costs_what_gaussian_noise_does() -> None:
    sampled = sampled_costs(6 * MICRO, MICRO, 10)
    plain = gaussian_costs(10 * charge_from_sigma(6 * MICRO))
    assert sampled[PURE] == plain[PURE] == COST_MAX
    for order, one, other in zip(
        ORDERS[:PURE], sampled[:PURE], plain[:PURE], strict=True
    ):
        slack = 10 * 2.0**-20 / 36 * order / (order - 1) * CHARGE_ONE
        # Not below either: the discrete noise's own term is part of the cost.
        assert other + slack - 100 <= one <= (other + slack) * (1 + 1e-9) + 100


@pytest.mark.parametrize("windows", [2, 3, 7])
def test_windows_cost_as_one_record_that_weighs_and_comes_as_often(
    windows: int,
) -> None:
    several = sampled_costs(windows * 2 * MICRO, 50_000, 12, windows)
    heavy = sampled_costs(2 * MICRO, windows * 50_000, 12)
    for one, other in zip(several, heavy, strict=True):
        assert other <= one <= other * (1 + 1e-9) + 100


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_pure_costs_approach_epsilon_and_stay_below_it(epsilon: float) -> None:
    costs = pure_costs(round(MICRO / epsilon))
    assert list(costs) == sorted(costs)
    assert 0.99 * epsilon < costs[-1] / CHARGE_ONE < epsilon * (1 + 1e-5)
    # Small ones cost like zero-concentrated privacy: alpha * epsilon^2 / 2.
    assert costs[0] / CHARGE_ONE <= ORDERS[0] * epsilon**2 / 2 * (1 + 1e-5)


def test_pure_costs_are_those_of_randomised_response() -> None:
    likely = math.e / (1 + math.e)
    for order, cost in zip(ORDERS, pure_costs(MICRO), strict=True):
        if order > 40:
            continue
        both = likely**order * (1 - likely) ** (1 - order)
        both += (1 - likely) ** order * likely ** (1 - order)
        exact = math.log(both) / (order - 1)
        assert exact <= cost / CHARGE_ONE <= exact * (1 + 1e-9) + 1e-11


@settings(
    deadline=None, max_examples=15
)  # the first cost of a schedule takes tens of milliseconds
@given(
    st.integers(MICRO // 2, 20 * MICRO),
    st.integers(1000, MICRO),
    st.integers(1, 200),
    st.integers(1, 4),
)
def test_sampled_costs_grow_with_steps_rate_and_windows(
    sigma: int, rate: int, steps: int, windows: int
) -> None:
    least = sampled_costs(sigma, rate, steps, windows)
    for more in (
        sampled_costs(sigma, rate, steps + 1, windows),
        sampled_costs(sigma, min(MICRO, 2 * rate), steps, windows),
        sampled_costs(sigma, rate, steps, windows + 1),
    ):
        # Equal rates and rounding leave room of the margin only.
        assert all(b >= a * (1 - 1e-8) - 100 for a, b in zip(least, more, strict=True))


@given(st.floats(0.05, 50.0), st.sampled_from([1e-3, 1e-5, 1e-9]))
def test_what_fills_a_budget_at_its_order_is_within_the_budget(
    epsilon: float, delta: float
) -> None:
    index, most = renyi_max(Budget(epsilon, delta))
    full = tuple(most if at == index else 1 << 62 for at in range(len(ORDERS)))
    found = renyi_epsilon(full, delta)
    assert found <= epsilon
    if most:
        assert found == pytest.approx(epsilon, rel=1e-9, abs=1e-9)


def test_costs_add_and_multiply_order_by_order() -> None:
    first, second = pure_costs(MICRO), gaussian_costs(CHARGE_ONE)
    assert plus(first, first) == times(first, 2)
    assert plus(first, second)[3] == first[3] + second[3]


def test_nothing_costs_nothing() -> None:
    assert renyi_epsilon(gaussian_costs(0), 1e-5) == 0.0


@pytest.mark.parametrize(
    ("sigma", "rate", "steps", "windows", "key"),
    [
        (0, MICRO, 1, 1, "sigma_micro"),
        (MICRO, 0, 1, 1, "sampling_micro"),
        (MICRO, MICRO + 1, 1, 1, "sampling_micro"),
        (MICRO, MICRO, 0, 1, "steps"),
        (MICRO, MICRO, 1 << 20, 1, "steps"),
        (MICRO, MICRO, 1, 0, "windows"),
    ],
)
def test_schedule_out_of_bounds_is_refused(
    sigma: int, rate: int, steps: int, windows: int, key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        sampled_costs(sigma, rate, steps, windows)
    assert caught.value.key == key
