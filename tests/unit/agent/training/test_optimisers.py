"""Optimisers against worked numbers and against the paths that PyTorch's take."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.agent.training.learning_rates import SCHEDULES, learning_rates
from starling.agent.training.optimisers import OPTIMISERS, proximal
from starling.protocol.learning.local_optimiser import (
    PLAIN,
    DescentPolicy,
    OptimiserKind,
    ScheduleKind,
)
from starling.protocol.learning.task import E12, Q24

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "vectors" / "optimiser_paths.json").read_text()
)


def vector(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_registries_hold_every_kind() -> None:
    assert set(OPTIMISERS) == set(OptimiserKind)
    assert set(SCHEDULES) == set(ScheduleKind)


@pytest.mark.parametrize(
    "known",
    VECTORS["paths"],
    ids=lambda known: f"{known['optimiser']} decay {known['weight_decay']}",
)
def test_path_is_that_of_pytorch(known: dict[str, Any]) -> None:
    kind = OptimiserKind[known["optimiser"]]
    policy = DescentPolicy(
        optimiser=kind,
        momentum_q24=round(VECTORS["momentum"] * Q24),
        beta2_q24=round(VECTORS["beta2"] * Q24),
        epsilon_e12=round(VECTORS["epsilon"] * E12),
        weight_decay_q24=round(known["weight_decay"] * Q24),
    )
    optimiser = OPTIMISERS[kind](policy)
    theta = vector(*VECTORS["theta"])
    state = optimiser.init(theta.size)

    path = []
    for gradient in VECTORS["gradients"]:
        state, theta = optimiser.apply(state, vector(*gradient), theta, VECTORS["rate"])
        path.append(theta)

    assert theta.dtype == np.float32
    assert state.steps == len(path)
    np.testing.assert_allclose(path, known["path"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # 4 - 0.5 * 2 = 3, then 3 - 0.5 * 2 = 2.
        (OptimiserKind.SGD, [3.0, 2.0]),
        # m = 2, then m = 0.5 * 2 + 2 = 3.
        (OptimiserKind.MOMENTUM, [3.0, 1.5]),
        # An equal gradient makes every corrected step the whole rate.
        (OptimiserKind.ADAM, [3.5, 3.0]),
        (OptimiserKind.ADAMW, [3.5, 3.0]),
    ],
)
def test_two_steps_with_gradient_two_worked_out(
    kind: OptimiserKind, expected: list[float]
) -> None:
    optimiser = OPTIMISERS[kind](DescentPolicy(kind, momentum_q24=Q24 // 2))
    theta, state, path = vector(4.0), optimiser.init(1), []

    for _ in range(2):
        state, theta = optimiser.apply(state, vector(2.0), theta, 0.5)
        path.append(float(theta[0]))

    np.testing.assert_allclose(path, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", OptimiserKind)
def test_step_changes_neither_state_nor_arguments(kind: OptimiserKind) -> None:
    optimiser = OPTIMISERS[kind](DescentPolicy(kind, weight_decay_q24=Q24 // 4))
    gradient, theta = vector(1.0, -2.0), vector(3.0, 4.0)
    before, _ = optimiser.apply(optimiser.init(2), gradient, theta, 0.1)
    kept = [moment.copy() for moment in before.moments]

    optimiser.apply(before, gradient, theta, 0.1)

    np.testing.assert_array_equal(gradient, vector(1.0, -2.0))
    np.testing.assert_array_equal(theta, vector(3.0, 4.0))
    for found, expected in zip(before.moments, kept, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_proximal_term_is_the_slope_of_half_mu_times_the_squared_way() -> None:
    found = proximal(vector(1.0, 1.0), vector(3.0, 0.0), vector(1.0, 4.0), Q24 // 2)

    np.testing.assert_array_equal(found, vector(2.0, -1.0))


def test_proximal_term_of_nothing_leaves_the_gradient() -> None:
    gradient = vector(1.0)

    assert proximal(gradient, vector(3.0), vector(1.0), 0) is gradient


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (PLAIN, [8.0, 8.0, 8.0, 8.0]),
        (
            DescentPolicy(schedule=ScheduleKind.STEP, period=2, decay_q24=Q24 // 2),
            [8.0, 8.0, 4.0, 4.0],
        ),
        (
            DescentPolicy(schedule=ScheduleKind.COSINE),
            [8.0, 4 + 8**0.5, 4.0, 4 - 8**0.5],
        ),
        (DescentPolicy(warmup=2), [4.0, 8.0, 8.0, 8.0]),
        (
            DescentPolicy(schedule=ScheduleKind.COSINE, warmup=2),
            [4.0, 8.0, 8.0, 4.0],
        ),
        (DescentPolicy(warmup=8), [1.0, 2.0, 3.0, 4.0]),
    ],
    ids=["constant", "step", "cosine", "warm-up", "warm-up, cosine", "warm-up only"],
)
def test_learning_rates_of_four_steps_worked_out(
    policy: DescentPolicy, expected: list[float]
) -> None:
    rate = learning_rates(policy, 8.0, 4)

    np.testing.assert_allclose([rate(number) for number in range(4)], expected)


@given(
    st.sampled_from(ScheduleKind),
    st.integers(0, 40),
    st.integers(1, 40),
    st.integers(0, Q24),
    st.integers(1, 60),
)
def test_learning_rate_stays_between_nothing_and_the_whole(
    schedule: ScheduleKind, warmup: int, period: int, decay_q24: int, steps: int
) -> None:
    policy = DescentPolicy(
        schedule=schedule, warmup=warmup, period=period, decay_q24=decay_q24
    )
    rate = learning_rates(policy, 1.0, steps)

    assert all(0.0 <= rate(number) <= 1.0 for number in range(steps))
