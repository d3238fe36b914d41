"""A task that ended grants no leases, and says why; credits let it go on."""

from dataclasses import replace

import pytest

from starling.coordinator.chain.tasks import task_end
from starling.coordinator.step.events import BoardMessageArrived
from starling.protocol.chain.credit_policy import CreditPolicy
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId
from starling.protocol.learning.end_policy import EndPolicy
from tests.unit.coordinator.fixtures.single_coordinator import (
    SingleCoordinator,
    board,
    refusals,
    spec,
)
from tests.unit.coordinator.fixtures.small_chain import opened
from tests.unit.coordinator.fixtures.small_task import SPEC

TASK = TaskId(0)


@pytest.mark.parametrize(
    ("end", "says"),
    [
        pytest.param(EndPolicy(version=1), "version 1 is its last", id="version"),
        pytest.param(EndPolicy(unpaid=1), "no credits left", id="unpaid"),
    ],
)
def test_ended_task_gives_no_lease_and_says_why(end: EndPolicy, says: str) -> None:
    boards = [board(number) for number in range(3)]
    world = SingleCoordinator(task=replace(spec(), end=end))
    world.open(boards)
    if end.version:
        for each in boards[:2]:
            world.contribute(each, [1.0, -1.0, 0.5, 0.0])
        world.tick()
        world.compute()
    newest = boards[2].check_in(world.state.tasks[TASK].head)
    sent = world.send(BoardMessageArrived(boards[2].device, newest))
    (refused,) = refusals(sent, boards[2].device)
    assert refused.reason == Reason.PAUSED
    assert says in refused.detail


def test_task_without_pay_goes_on_once_it_has_credits() -> None:
    unpaid = replace(SPEC, end=EndPolicy(unpaid=1))
    world = opened(spec=unpaid, economy=CreditPolicy(supply=100))
    assert "no credits left" in task_end.rests(world.tree, 0, 0)
    world.must(world.fund(5))
    assert not task_end.rests(world.tree, 0, 0)


def test_task_is_over_once_a_header_has_its_time() -> None:
    world = opened(spec=replace(SPEC, end=EndPolicy(until_ms=60_000)))
    assert not task_end.rests(world.tree, 0, 59_999)
    assert "its time was over" in task_end.rests(world.tree, 0, 60_000)


def test_task_that_there_is_not_has_not_ended() -> None:
    assert not task_end.ended(opened().tree, 7, 0)
