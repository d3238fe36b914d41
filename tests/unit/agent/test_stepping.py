"""Noised local steps: what is summed, what moves, what is refused."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.mechanism import (
    GROUP,
    LANES_MAX,
    Step,
    private_update,
    private_update_laplace,
    sampled_sum,
)
from agent.orders import TrainingOrder
from agent.stepping import noised_steps
from agent.work import Work
from protocol.errors import NonFinite
from protocol.ids import H, TaskId, Version
from protocol.mechanisms import RECORD_DPSGD
from protocol.noise import device_radius, laplace_grid, laplace_radius, noise_grid
from protocol.task import MICRO, Q24, PrivacyPolicy, TrainingMode, TrainingPolicy

RNG = np.random.default_rng(11)
DIMENSION = 6
CLIP_Q24 = Q24 // 2
X = RNG.normal(size=(1500, DIMENSION)).astype(np.float32)
Y = np.zeros(1500, np.int64)


def stream(seed: int) -> Callable[[int], bytes]:
    calls = iter(range(1 << 30))
    return lambda size: hashlib.shake_256(f"{seed} {next(calls)}".encode()).digest(size)


def step_at(theta: NDArray[np.float32]) -> Step:
    """Least squares towards the records, clipped; a zero record pulls to zero."""

    def step(x: NDArray[Any], y: NDArray[Any]) -> tuple[Any, Any]:
        del y
        gradients = theta - x
        norms = np.linalg.norm(gradients, axis=1)
        scale = np.minimum(1, CLIP_Q24 / Q24 / np.maximum(norms, 1e-12))
        total = (scale[:, None] * gradients)[np.isfinite(norms)].sum(axis=0)
        return np.asarray(total, np.float32), np.asarray(norms, np.float32)

    return step


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


@pytest.mark.parametrize("micro_batch", [1, 5, 64])
@pytest.mark.parametrize("count", [0, 1, 7, 300, 1500])
def test_sampled_sum_is_the_sum_over_what_was_chosen(
    micro_batch: int, count: int
) -> None:
    theta = RNG.normal(size=DIMENSION).astype(np.float32)
    chosen = np.sort(RNG.choice(1500, count, replace=False))
    found = sampled_sum(step_at(theta), X, Y, chosen, micro_batch)
    expected, _ = step_at(theta)(X[chosen], Y[chosen])
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_record_keeps_its_row_and_disturbs_only_its_group() -> None:
    rows: list[list[tuple[int, int]]] = []

    def step(x: NDArray[Any], y: NDArray[Any]) -> tuple[Any, Any]:
        del y
        assert len(x) == LANES_MAX
        rows[-1] += [(int(v), row) for row, v in enumerate(x[:, 0]) if v]
        return np.zeros(1, np.float32), np.zeros(len(x), np.float32)

    numbers = np.arange(1500, dtype=np.float32)[:, None]
    chosen = np.sort(RNG.choice(np.arange(1, 1500), 400, replace=False))
    for some in (chosen, np.delete(chosen, 100)):
        rows.append([])
        sampled_sum(step, numbers, Y, some, 64)
    assert {number % LANES_MAX for number, row in rows[0] if row == 3} == {3}
    gone = int(chosen[100])
    assert set(rows[0]) - set(rows[1]) == {(gone, gone % LANES_MAX)}
    others = [
        [entry for entry in seen if entry[0] // GROUP != gone // GROUP] for seen in rows
    ]
    assert others[0] == others[1]


def test_steps_without_much_noise_reach_the_mean_of_the_clipped() -> None:
    theta = np.full(DIMENSION, 3.0, np.float32)
    calls: list[str] = []
    order = schedule(MICRO // 50, 60)
    vector = noised_steps(
        step_at,
        Work(theta, X[:400], Y[:400], order, 8),
        lambda: calls.append("ready"),
        stream(1),
    )
    end = theta - vector.values * 2.0**vector.exponent / order.pledge
    assert calls == ["ready"]
    # Records lie around zero, so that clipped pulls balance near it.
    assert np.abs(end).max() < 0.3


def test_one_step_over_all_records_is_one_noised_sum() -> None:
    theta = np.full(DIMENSION, 3.0, np.float32)
    order = schedule(4 * MICRO, 1, MICRO)
    work = Work(theta, X[:400], Y[:400], order, 8)
    draws = [noised_steps(step_at, work, lambda: None, stream(s)) for s in range(300)]
    ways = np.array([draw.values * 2.0**draw.exponent for draw in draws]) * 2
    exact, _ = step_at(theta)(X[:400], Y[:400])
    deviation = noise_grid(CLIP_Q24, 4 * MICRO, DIMENSION).deviation
    scores = (ways - exact) / deviation
    # 1800 numbers: odds below 1e-6 for either bound.
    assert abs(scores.mean()) < 5 / np.sqrt(scores.size)
    assert 0.85 < scores.std() < 1.15


def test_nothing_is_drawn_before_it_is_paid_for() -> None:
    class Unpaid(Exception):
        pass

    def draw(size: int) -> bytes:
        raise AssertionError(size)

    def refuse() -> None:
        raise Unpaid

    theta = np.zeros(DIMENSION, np.float32)
    work = Work(theta, X[:9], Y[:9], schedule(MICRO, 3), 4)
    with pytest.raises(Unpaid):
        noised_steps(step_at, work, refuse, draw)


def test_model_without_a_gradient_fails_before_it_is_paid_for() -> None:
    def broken(theta: NDArray[np.float32]) -> Step:
        del theta
        return lambda x, y: (
            np.full(2, np.nan, np.float32),
            np.ones(len(x), np.float32),
        )

    def ready() -> None:
        raise AssertionError

    work = Work(np.zeros(2, np.float32), X, Y, schedule(MICRO, 1), 4)
    with pytest.raises(NonFinite):
        noised_steps(broken, work, ready, stream(1))


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
    bound = radius(CLIP_Q24, sigma, dimension, pledge) / Q24
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
        Work(theta, X[:50], Y[:50], given, 8)
        for given in (order, replace(order, windows=3))
    ]
    ways = [noised_steps(step_at, work, lambda: None, stream(4)) for work in works]
    np.testing.assert_array_equal(ways[0].values, ways[1].values)
