"""Each condition has a way out, or needs none."""

import pytest

from starling.agent.round.next_actions import NEXT_ACTIONS, next_action
from starling.agent.round.readiness import SLEEPING
from starling.agent.step.state import ReadinessCondition


def test_every_condition_has_its_row() -> None:
    assert set(NEXT_ACTIONS) == set(ReadinessCondition)


@pytest.mark.parametrize("condition", sorted(SLEEPING, key=str))
def test_board_that_sleeps_needs_somebody(condition: ReadinessCondition) -> None:
    assert next_action(condition.value)


@pytest.mark.parametrize(
    "text", ["training", "not a condition", "keys/a: readable by others; run: chmod"]
)
def test_board_at_work_and_texts_of_their_own_need_nothing(text: str) -> None:
    assert next_action(text) == ""
