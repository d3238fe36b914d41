"""Contributions add up, noise alone is worth nothing, and paydays come in steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.learning.reward_policy import (
    MILLION,
    NOTHING_EARNED,
    WORTH_MAX,
    BoardEarnings,
    RewardPolicy,
    contribution,
    with_contribution,
)
from starling.protocol.learning.task import Q15

influences = st.integers(-MILLION, MILLION)


def earned(*amounts: int) -> BoardEarnings:
    known = NOTHING_EARNED
    for amount in amounts:
        known = with_contribution(known, amount)
    return known


@pytest.mark.parametrize(
    ("influence", "size", "weight", "expected"),
    [
        pytest.param(500_000, 16, Q15, 8_000_000, id="half of 16 examples"),
        pytest.param(500_000, 16, Q15 // 2, 4_000_000, id="late"),
        pytest.param(-500_000, 16, Q15, -8_000_000, id="harm"),
        pytest.param(-1, 1, 1, -1, id="rounded down"),
    ],
)
def test_contribution_is_influence_times_size_times_weight(
    influence: int, size: int, weight: int, expected: int
) -> None:
    assert contribution(influence, size, weight) == expected


@given(influences, st.lists(st.integers(1, 1 << 20), min_size=1, max_size=9))
def test_parts_of_a_data_set_contribute_what_the_whole_does(
    influence: int, parts: list[int]
) -> None:
    alone = sum(contribution(influence, part, Q15) for part in parts)
    assert alone == contribution(influence, sum(parts), Q15)


def test_harm_is_made_good_before_anything_is_due() -> None:
    known = earned(10, -30)
    assert (known.worth(0), known.due(0)) == (0, 0)
    known = with_contribution(known, 25)
    assert (known.worth(0), known.due(0), known.scored) == (5, 5, 3)


def test_two_deviations_of_the_noise_of_all_updates_are_taken_off() -> None:
    known = earned(*[100] * 25)
    assert known.worth(7) == 2500 - 2 * 7 * 5
    assert earned(*[13] * 25).worth(7) == 325 - 70
    assert earned(*[2] * 25).worth(7) == 0


def test_what_was_paid_for_is_not_due_again() -> None:
    known = BoardEarnings(contribution=100, scored=10, paid=80)
    assert (known.due(0), with_contribution(known, -50).due(0)) == (20, 0)


@pytest.mark.parametrize(
    ("contribution", "paid", "left"),
    [(100, 80, 0), (50, 80, -30), (-40, 0, -40), (-WORTH_MAX, WORTH_MAX, -WORTH_MAX)],
)
def test_debts_are_not_forgotten(contribution: int, paid: int, left: int) -> None:
    known = BoardEarnings(contribution=contribution, scored=10, paid=paid)
    assert known.forgotten() == BoardEarnings(contribution=left)
    assert known.forgotten().forgotten() == known.forgotten()


@given(st.lists(influences, min_size=1, max_size=40), st.integers(0, MILLION))
def test_worth_is_never_below_zero_nor_above_the_sum(
    amounts: list[int], sigma_micro: int
) -> None:
    worth = earned(*amounts).worth(sigma_micro)
    assert 0 <= worth <= max(0, sum(amounts))


def test_sums_stay_within_their_bounds() -> None:
    assert earned(WORTH_MAX, WORTH_MAX).contribution == WORTH_MAX
    assert earned(-WORTH_MAX, -WORTH_MAX).contribution == -WORTH_MAX


@pytest.mark.parametrize(
    ("participations", "paydays"),
    [(10, [10, 15, 20, 25]), (3, [3, 4, 5, 6]), (1, [1, 2, 3, 4])],
)
def test_paydays_begin_late_and_come_twice_as_often(
    participations: int, paydays: list[int]
) -> None:
    policy = RewardPolicy(participations=participations)
    assert [n for n in range(40) if policy.is_payday(n)][:4] == paydays
