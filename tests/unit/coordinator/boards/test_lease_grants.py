"""Leases of one task do not depend on what waits for a version of another."""

from dataclasses import replace

from starling.coordinator.boards.lease_grants import BACKLOG_BUFFERS
from starling.coordinator.step.events import BoardMessageArrived
from starling.protocol.ids import TaskId
from starling.protocol.learning.task import TASK
from starling.protocol.wire.envelope import MessageKind
from tests.unit.coordinator.fixtures.single_coordinator import (
    DIMENSION,
    FixtureBoard,
    SingleCoordinator,
    board,
    spec,
    told,
)


def lease_kinds(world: SingleCoordinator, board: FixtureBoard, task: int) -> list[int]:
    asked = BoardMessageArrived(board.device, board.check_in(0, task))
    return [each.kind for each in told(world.send(asked), board.device)]


def test_backlog_of_one_task_pauses_its_own_leases_and_no_other_s() -> None:
    boards = [board(number) for number in range(BACKLOG_BUFFERS + 1)]
    world = SingleCoordinator(task=spec(buffer=1, leases=8))
    world.open(boards)
    other = replace(world.task, name="another")
    world.operate(MessageKind.TASK, TASK.pack(other))
    *full, late = boards

    # Admitted, and in no block: no tick of the clock comes between.
    for each in full:
        world.contribute(each, [1.0] * DIMENSION)

    assert world.state.held.of_task(TaskId(0)) == BACKLOG_BUFFERS
    assert MessageKind.LEASE not in lease_kinds(world, late, 0)
    assert MessageKind.LEASE in lease_kinds(world, late, 1)
