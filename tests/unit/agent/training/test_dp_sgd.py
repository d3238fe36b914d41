"""Noised local steps: what is summed, what moves, what is refused."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.agent.privacy.noise_mechanisms import (
    private_update,
    private_update_laplace,
)
from starling.agent.training.dp_sgd import noised_steps
from starling.agent.training.gradient_clipping import Gradient
from starling.agent.training.trainer_messages import TrainingOrder
from starling.agent.training.training_inputs import TrainingInputs
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.learning.task import (
    MICRO,
    Q24,
    PrivacyPolicy,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.privacy.clipping_functions import NORM
from starling.protocol.privacy.mechanisms import RECORD_DPSGD
from starling.protocol.privacy.noise_grid import (
    device_radius,
    laplace_grid,
    laplace_radius,
    noise_grid,
)

RNG = np.random.default_rng(11)
DIMENSION = 6
CLIP_Q24 = Q24 // 2
X = RNG.normal(size=(1500, DIMENSION)).astype(np.float32)
Y = np.zeros(1500, np.int64)


def stream(seed: int) -> Callable[[int], bytes]:
    calls = iter(range(1 << 30))
    return lambda size: hashlib.shake_256(f"{seed} {next(calls)}".encode()).digest(size)


def gradient_at(theta: NDArray[np.float32]) -> Gradient:
    """Least squares towards the records; not clipped."""

    def gradient(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        del y
        assert x.shape == (1, DIMENSION)
        found: NDArray[np.float32] = theta - x[0]
        return found

    return gradient


def schedule(sigma: int, steps: int, sampling: int = MICRO // 4) -> TrainingOrder:
    privacy = PrivacyPolicy(
        RECORD_DPSGD, CLIP_Q24, sigma, MICRO, 10**7, 1, sampling, steps, 1
    )
    return TrainingOrder(
        TaskId(0),
        Version(0),
        H(b"bundle"),
        H(b"theta"),
        DIMENSION,
        0,
        400,
        TrainingPolicy(TrainingMode.LOCAL, 1, 1, Q24 // 2),
        privacy,
        1,
    )


def test_steps_without_much_noise_reach_the_mean_of_the_clipped() -> None:
    theta = np.full(DIMENSION, 3.0, np.float32)
    order = schedule(MICRO // 50, 60)
    work = TrainingInputs(theta, X[:400], Y[:400], order, 8)
    vector, unusable = noised_steps(gradient_at, work, NORM, stream(1))
    end = theta - vector.values * 2.0**vector.exponent / order.pledge
    assert unusable == 0
    # Records lie around zero, so that clipped pulls balance near it.
    assert np.abs(end).max() < 0.3


def test_one_step_over_all_records_is_one_noised_sum() -> None:
    theta = np.full(DIMENSION, 3.0, np.float32)
    order = schedule(4 * MICRO, 1, MICRO)
    work = TrainingInputs(theta, X[:400], Y[:400], order, 8)
    draws = [noised_steps(gradient_at, work, NORM, stream(s))[0] for s in range(300)]
    ways = np.array([draw.values * 2.0**draw.exponent for draw in draws]) * 2
    pulls = theta - X[:400].astype(np.float64)
    norms = np.linalg.norm(pulls, axis=1, keepdims=True)
    exact = (pulls * np.minimum(1, CLIP_Q24 / Q24 / norms)).sum(axis=0)
    deviation = noise_grid(CLIP_Q24, 4 * MICRO, DIMENSION).deviation
    scores = (ways - exact) / deviation
    # 1800 numbers: odds below 1e-6 for either bound.
    assert abs(scores.mean()) < 5 / np.sqrt(scores.size)
    assert 0.85 < scores.std() < 1.15


def test_every_step_has_its_own_noise_of_the_charged_size() -> None:
    # Without records theta never moves but by noise; 60 steps of 6 numbers a seed.
    order = schedule(2 * MICRO, 60)
    theta = np.zeros(DIMENSION, np.float32)
    work = TrainingInputs(theta, X[:0], Y[:0], order, 8)
    grid = noise_grid(CLIP_Q24, 2 * MICRO, DIMENSION)
    seen: list[NDArray[np.float32]] = []

    def watched(moved: NDArray[np.float32]) -> Gradient:
        seen.append(moved.copy())
        return gradient_at(moved)

    for seed in range(20):
        noised_steps(watched, work, NORM, stream(seed))

    rate = order.training.learning_rate_q24 / Q24 / (order.pledge / 4)
    moves = [
        (seen[i] - seen[i + 1]) / rate for i in range(len(seen) - 1) if (i + 1) % 60
    ]
    scores = np.array(moves) / grid.deviation
    by_step = scores.reshape(20, 59, DIMENSION)
    # 7,080 numbers, and 120 a step: odds below 1e-6 each.
    assert 0.95 < scores.std() < 1.05
    assert (by_step.std(axis=(0, 2)) > 0.65).all()


@pytest.mark.parametrize("length", [0.0, 0.1, 0.5, 100.0, np.inf, np.nan])
@pytest.mark.parametrize("law", ["gaussian", "laplace"])
def test_whole_update_is_clipped_before_noise(law: str, length: float) -> None:
    sigma = MICRO // 50
    direction = np.array([0.6, -0.8, 0, 0, 0, 0])
    noised = {"gaussian": private_update, "laplace": private_update_laplace}[law]
    with np.errstate(invalid="ignore"):
        update = direction * length
    found = noised(update, CLIP_Q24, sigma, stream(1))
    # A vector of this direction has an L1 norm 1.4 times its L2 norm.
    norm = length * (1.4 if law == "laplace" else 1.0)
    if not np.isfinite(length):
        kept = np.zeros(DIMENSION)
    else:
        kept = update if norm <= 0.5 else update * 0.5 / norm
    # Thirty times the noise's scale of 2 * clip / 50.
    np.testing.assert_allclose(found.values * 2.0**found.exponent, kept, atol=0.6)


def test_laplace_noise_has_the_scale_that_is_charged() -> None:
    # 30,000 numbers: odds below 1e-6.
    grid = laplace_grid(2 * CLIP_Q24, 3 * MICRO, 30_000)
    found = private_update_laplace(np.zeros(30_000), CLIP_Q24, 3 * MICRO, stream(2))
    assert found.exponent == grid.exponent
    assert np.abs(found.values).mean() / grid.scale == pytest.approx(1, abs=0.03)
    assert grid.scale * 2.0**grid.exponent >= 3.0
    assert grid.scale * 2.0**grid.exponent < 3.0 * 1.002


@pytest.mark.parametrize("law", ["gaussian", "laplace"])
def test_honest_whole_updates_stay_within_their_radius(law: str) -> None:
    sigma, dimension, pledge = 3 * MICRO, 3000, 40
    noised = {"gaussian": private_update, "laplace": private_update_laplace}[law]
    radius = {"gaussian": device_radius, "laplace": laplace_radius}[law]
    bound = radius(CLIP_Q24, sigma, dimension, pledge, 1) / Q24
    update = np.full(dimension, 1.0)
    norms = []
    for seed in range(20):
        found = noised(update, CLIP_Q24, sigma, stream(seed))
        norms.append(pledge * np.linalg.norm(found.values * 2.0**found.exponent))
    assert max(norms) < bound
    # The bound must bite, too; Laplace's tails make it wider.
    assert bound < 1.7 * max(norms)


def test_windows_are_part_of_the_order_and_change_no_noise() -> None:
    theta = np.zeros(DIMENSION, np.float32)
    order = schedule(MICRO, 2)
    works = [
        TrainingInputs(theta, X[:50], Y[:50], given, 8)
        for given in (order, replace(order, windows=3))
    ]
    ways = [noised_steps(gradient_at, work, NORM, stream(4))[0] for work in works]
    np.testing.assert_array_equal(ways[0].values, ways[1].values)
