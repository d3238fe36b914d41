"""When a run gets no better."""

import pytest

from starling.fleet.report.convergence import (
    QUIET_S,
    BudgetWatch,
    barred_boards,
    converged,
    spent_text,
    why_over,
)


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ([3.0, 2.0, 1.0], 1, False),
        ([3.0, 2.0, 2.5, 2.1], 2, True),
        ([3.0, 2.0, 2.5, 1.5], 2, False),
        ([3.0, None, None, None], 2, False),
        ([3.0, 2.9999, 2.9998], 2, True),
        ([-1.0, -2.0, -1.9], 1, True),
        ([1.0] * 50, None, False),
        ([], 1, False),
    ],
)
def test_converged_counts_versions_since_the_best(
    losses: list[float | None], patience: int | None, expected: bool
) -> None:
    assert converged(losses, patience) is expected


def test_paused_task_ends_a_run_whatever_its_patience() -> None:
    assert why_over([3.0, 2.0], None, True) == "paused"
    assert why_over([3.0, 2.0, 2.5, 2.1], 2, False) == "converged"
    assert why_over([3.0, 2.0], 2, False) == ""


def test_budget_watch_waits_while_enough_boards_can_pay() -> None:
    watch = BudgetWatch(boards=5, buffer=4)
    assert not watch.is_over(0.0, 1, 3)
    assert not watch.is_over(10 * QUIET_S, 1, 3)
    assert watch.is_over(10 * QUIET_S, 1, 5)


def test_budget_watch_gives_the_last_board_time_for_what_it_began() -> None:
    watch = BudgetWatch(boards=5, buffer=4)
    assert not watch.is_over(0.0, 1, 4)
    assert not watch.is_over(QUIET_S, 2, 4)
    assert not watch.is_over(2 * QUIET_S, 2, 4)
    assert watch.is_over(2 * QUIET_S + 1, 2, 4)


def test_budget_watch_counts_who_is_barred_only_when_nothing_moves() -> None:
    watch, asked = BudgetWatch(boards=5, buffer=4), list[int]()

    def barred() -> int:
        asked.append(2)
        return 2

    assert not watch.is_over(0.0, 1, 2, barred)
    assert asked == []
    assert watch.is_over(QUIET_S + 1, 1, 2, barred)
    # Two that could pay are enough for half a buffer.
    assert not watch.is_over(QUIET_S + 1, 1, 1, barred)


def test_only_quarantines_that_outlast_the_run_bar_boards_from_it() -> None:
    assert barred_boards(3, 600, 600.0) == 3
    assert barred_boards(3, 599, 600.0) == 0
    assert spent_text(3) == "budgets spent, 3 in quarantine"
    assert spent_text(0) == "budgets spent"
