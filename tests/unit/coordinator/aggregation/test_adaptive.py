import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.aggregation.adaptive import (
    EPSILON,
    fedadagrad,
    fedadam,
    fedyogi,
)
from starling.coordinator.aggregation.integer_rounding import root_floor
from starling.coordinator.aggregation.server_step import PARAMETER_MAX
from starling.coordinator.aggregation.strategy import (
    Aggregator,
    ModelState,
    WeightedUpdate,
)
from starling.protocol.learning.task import Q15, Q16, Q24, AggregationPolicy

RULES = [fedadam, fedyogi, fedadagrad]
BETA1, BETA2, RATE, TAU = 0.875, 0.99, 0.25, EPSILON / Q24


def policy(rate: float = RATE) -> AggregationPolicy:
    return AggregationPolicy(
        5, 1, round(rate * Q16), round(BETA1 * Q16), 0, (Q15,), 1, 1, 1
    )


def gradient(values: list[float], examples: int = 1) -> WeightedUpdate:
    vector = [round(examples * value * Q24) for value in values]
    return WeightedUpdate(np.array(vector, np.int64), Q15, examples)


def second(rule: Callable[..., Aggregator], v: float, square: float) -> float:
    """The paper's line for v."""
    if rule is fedadam:
        return BETA2 * v + (1 - BETA2) * square
    if rule is fedyogi:
        return v - (1 - BETA2) * square * math.copysign(1.0, v - square)
    return v + square


@pytest.mark.parametrize("rule", RULES)
def test_adaptive_equals_the_paper_s_algorithm_in_floats(
    rule: Callable[..., Aggregator],
) -> None:
    path = np.random.default_rng(3).normal(0.0, [1.0, 0.1, 0.01], (12, 3))
    aggregator = rule(policy())
    state = aggregator.init(np.zeros(3, np.int64))
    x, m, v = np.zeros(3), np.zeros(3), np.full(3, TAU**2)

    for version, slope in enumerate(path, 1):
        state = aggregator.apply(state, [gradient(slope.tolist())], version)
        m = BETA1 * m + (1 - BETA1) * slope
        v = np.array([second(rule, a, b * b) for a, b in zip(v, slope, strict=True)])
        x = x - RATE * m / (np.sqrt(v) + TAU)

        assert state.theta / Q24 == pytest.approx(x, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("rule", [fedadam, fedadagrad])
def test_adaptive_without_the_noise_s_share_walks_as_without_noise(
    rule: Callable[..., Aggregator],
) -> None:
    # Slopes whose squares average what signal and noise have together.
    noise, examples = 0.5, 20
    signal = np.array([1.0, 0.1])
    ends = {}
    for known in (0.0, noise):
        variance = round((known * examples * Q24) ** 2)
        aggregator = rule(policy(), variance)
        state = aggregator.init(np.zeros(2, np.int64))
        for version in range(1, 400):
            side = noise if version % 2 else -noise
            update = gradient((signal + side).tolist(), examples)
            state = aggregator.apply(state, [update], version)
        ends[known] = state.theta / Q24
    clean = rule(policy())
    state = clean.init(np.zeros(2, np.int64))
    for version in range(1, 400):
        update = gradient(signal.tolist(), examples)
        state = clean.apply(state, [update], version)

    wanted = state.theta / Q24
    assert ends[noise] == pytest.approx(wanted, rel=0.35)
    assert abs(ends[0.0][1]) < 0.3 * abs(wanted[1])


@pytest.mark.parametrize("rule", RULES)
def test_adaptive_late_buffer_takes_a_shorter_step(
    rule: Callable[..., Aggregator],
) -> None:
    aggregator = rule(policy())
    start = aggregator.init(np.zeros(1, np.int64))
    fresh = gradient([1.0])
    late = replace(fresh, weight_q15=Q15 // 4)

    steps = [aggregator.apply(start, [one] * 3, 1).theta[0] for one in (fresh, late)]

    assert steps[1] == pytest.approx(steps[0] / 4, abs=1)


@pytest.mark.parametrize("rule", RULES)
def test_adaptive_largest_inputs_saturate_and_never_wrap(
    rule: Callable[..., Aggregator],
) -> None:
    aggregator = rule(policy(256.0), 1 << 200)
    state: ModelState = aggregator.init(np.array([0, 0]))
    extreme = WeightedUpdate(np.array([-PARAMETER_MAX, PARAMETER_MAX]), Q15, 1)

    for version in range(1, 40):
        state = aggregator.apply(state, [extreme] * 1024, version)

    assert state.theta.tolist() == [PARAMETER_MAX, -PARAMETER_MAX]
    assert (state.memory >= 0).all()


@given(st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=20))
def test_root_floor_any_integers_equals_the_exact_root(values: list[int]) -> None:
    assert root_floor(np.array(values)).tolist() == [math.isqrt(v) for v in values]
