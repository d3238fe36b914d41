"""Delays between connections: bounded, jittered, and slow to forget."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.broker.backoff import SHORT_LIVED_S, Backoff, BackoffPolicy, after_loss

POLICY = BackoffPolicy(first_s=1.0, most_s=60.0, stable_s=30.0)


def bounds(lives: list[float | None]) -> list[float]:
    """The longest delay after each loss."""
    state, delays = Backoff(), []
    for lived_s in lives:
        state, delay_s = after_loss(state, POLICY, lived_s, False, 0.0)
        delays.append(delay_s)
    return delays


@pytest.mark.parametrize(
    ("lives", "expected"),
    [
        ([None] * 8, [1, 2, 4, 8, 16, 32, 60, 60]),
        ([None, None, 29.9, None], [1, 2, 4, 8]),
        ([None, None, 30.0, None], [1, 2, 1, 2]),
        ([1.0, 1.0, 1.0, None], [1, 2, 60, 8]),
    ],
    ids=["unreachable", "unstable", "stable-clears", "three-short-lives"],
)
def test_bound_of_delay_follows_failures(
    lives: list[float | None], expected: list[float]
) -> None:
    assert bounds(lives) == expected


@given(
    st.lists(st.none() | st.floats(0, 1e6), max_size=60),
    st.booleans(),
    st.floats(0, 1, exclude_max=True),
)
def test_delay_is_positive_and_never_over_the_most(
    lives: list[float | None], told: bool, uniform: float
) -> None:
    state = Backoff()
    for lived_s in lives:
        state, delay_s = after_loss(state, POLICY, lived_s, told, uniform)
        assert 0 < delay_s <= POLICY.most_s


@pytest.mark.parametrize("uniform", [0.0, 0.5, 0.999])
def test_delay_after_takeover_is_at_least_half_of_the_most(uniform: float) -> None:
    _, delay_s = after_loss(Backoff(), POLICY, 100.0, True, uniform)

    assert delay_s >= POLICY.most_s / 2


def test_takeover_is_suspected_after_three_short_lives_and_cleared_by_a_long_one() -> (
    None
):
    state = Backoff()
    suspected = []
    for lived_s in (1.0, 1.0, 1.0, SHORT_LIVED_S, 1.0):
        state, _ = after_loss(state, POLICY, lived_s, False, 0.5)
        suspected.append(state.taken_over)

    assert suspected == [False, False, True, False, False]


def test_delays_of_a_fleet_spread_over_all_of_the_bound() -> None:
    state = Backoff(attempt=5)
    delays = [after_loss(state, POLICY, None, False, n / 100)[1] for n in range(100)]

    assert min(delays) == pytest.approx(0.32)
    assert max(delays) == 32.0


def test_broker_that_restarts_again_and_again_is_no_takeover() -> None:
    state, delays = Backoff(), []
    for _ in range(4):
        state, delay_s = after_loss(state, POLICY, 1.0, False, 0.0, resumed=False)
        delays.append(delay_s)
        assert not state.taken_over

    assert delays == [1, 2, 4, 8]


@pytest.mark.parametrize("away_s", [1, 2, 5, 10, 30, 60])
@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_boards_come_back_within_a_minute_and_in_no_storm(
    away_s: int, seed: int
) -> None:
    policy, draw = BackoffPolicy(first_s=1000 / 20), random.Random(seed)
    back = Counter[int]()
    for _ in range(1000):
        state, delay_s = after_loss(Backoff(), policy, 100.0, False, draw.random())
        tried_s = delay_s
        while tried_s < away_s:
            state, delay_s = after_loss(state, policy, None, False, draw.random())
            tried_s += delay_s
        back[int(tried_s - away_s)] += 1

    assert max(back) < 60
    assert max(back.values()) <= 50
