import pytest

from starling.coordinator.handlers.board_messages import RECEIPTS_WAITING_MAX
from starling.coordinator.step.effects import ComputeVersion
from starling.coordinator.step.events import ComputationFailed
from starling.protocol.ids import TaskId, Version
from starling.protocol.wire.envelope import MessageKind
from tests.unit.coordinator.fixtures.single_coordinator import (
    FixtureBoard,
    SingleCoordinator,
    board,
    spec,
    told,
)


@pytest.fixture
def boards() -> list[FixtureBoard]:
    return [board(number) for number in (1, 2)]


@pytest.fixture
def world(boards: list[FixtureBoard]) -> SingleCoordinator:
    world = SingleCoordinator()
    world.open(boards)
    return world


def test_uploads_many_for_one_block_all_get_proofs_and_few_a_receipt() -> None:
    crowd = [board(number) for number in range(1, RECEIPTS_WAITING_MAX + 3)]
    world = SingleCoordinator(task=spec(buffer=100, leases=100))
    world.open(crowd)

    receipts = [
        [envelope.kind for envelope in told(effects, each.device)]
        for each in crowd
        for effects in (world.contribute(each, [1.0, 0, 0, 0]),)
    ]
    block = world.tick()

    assert receipts == [[MessageKind.ACCEPTED]] * RECEIPTS_WAITING_MAX + [[], []]
    for each in crowd:
        assert [envelope.kind for envelope in told(block, each.device)] == [
            MessageKind.FINAL
        ]


def test_job_not_computed_is_handed_out_again_ever_later(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    world.contribute(boards[0], [1.0, 0, 0, 0])
    world.contribute(boards[1], [1.0, 0, 0, 0])
    world.tick()
    failed = ComputationFailed(TaskId(0), Version(1), "a vector is missing")
    jobs = list(world.jobs)

    world.send(failed)
    early, due = world.tick(0.9), world.tick(0.2)
    world.send(failed)
    later, again = world.tick(1.5), world.tick(0.6)
    world.jobs = list(jobs)
    world.compute()
    settled = world.tick(1000)

    handed_out = [
        [effect for effect in effects if isinstance(effect, ComputeVersion)]
        for effects in (early, due, later, again, settled)
    ]
    assert [len(each) for each in handed_out] == [0, 1, 0, 1, 0]
    assert due[0] == ComputeVersion(TaskId(0), Version(1), jobs[0])
    assert world.state.tasks[TaskId(0)].head == 1
