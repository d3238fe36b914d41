"""A closed task: no lease, a reason with names, and nothing lost that was paid for."""

import pytest

from starling.coordinator.step.effects import LogLine, SendMessage
from starling.coordinator.step.events import BoardMessageArrived
from starling.protocol.chain.light_client import MANIFEST, ModelManifest, pin
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import CLOSE, REGISTER, Close, Register
from tests.unit.coordinator.fixtures.single_coordinator import (
    GENESIS,
    TOPICS,
    FixtureBoard,
    SingleCoordinator,
    board,
    refusals,
    spec,
)

TASK = TaskId(0)


@pytest.fixture
def boards() -> list[FixtureBoard]:
    return [board(number) for number in range(3)]


@pytest.fixture
def world(boards: list[FixtureBoard]) -> SingleCoordinator:
    made = SingleCoordinator(task=spec())
    made.open(boards)
    return made


def close(world: SingleCoordinator) -> None:
    world.operate(MessageKind.CLOSE, CLOSE.pack(Close(TASK)))


def test_board_that_checks_in_hears_who_closed_the_task_and_when(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    close(world)

    said = BoardMessageArrived(boards[0].device, boards[0].check_in(0))
    (refused,) = refusals(world.send(said), boards[0].device)

    assert refused.reason == Reason.CLOSED
    assert refused.retry_after_s > 0
    assert "closed by operator " in refused.detail
    assert "at height " in refused.detail
    told = [each.text for each in world.effects if isinstance(each, LogLine)]
    assert any("was closed by operator" in text for text in told)


def test_manifest_of_a_closed_task_is_shown_anew_and_proves_it(
    world: SingleCoordinator,
) -> None:
    def shown() -> list[ModelManifest]:
        topic = TOPICS.manifest(TASK)
        said = [each for each in world.effects if isinstance(each, SendMessage)]
        return [MANIFEST.unpack(each.payload) for each in said if each.topic == topic]

    before = shown()
    close(world)
    world.tick(1000.0)

    (after,) = shown()[len(before) :]
    after.check(pin(GENESIS))
    assert after.is_over
    assert not any(each.is_over for each in before)


def test_board_that_waits_gets_no_lease_of_a_closed_task(
    world: SingleCoordinator,
) -> None:
    full = [board(10 + number) for number in range(8)]
    for each in full:
        world.operate(MessageKind.REGISTER, REGISTER.pack(Register(each.key.public)))
    leases = [world.check_in(each, 0) for each in full]
    assert None in leases
    assert len(world.state.tasks[TASK].leases.waiting) > 0

    close(world)
    assert len(world.state.tasks[TASK].leases.waiting) == 0
    world.tick(1000.0)

    assert len(world.state.tasks[TASK].leases.waiting) == 0
    assert len(world.state.tasks[TASK].leases.granted) == 0


def test_update_that_was_leased_before_becomes_a_version(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    leases = [world.check_in(each, 0) for each in boards[:2]]
    close(world)

    for each, lease in zip(boards, leases, strict=False):
        assert lease is not None
        world.upload(each, each.upload(lease, [0.5] * 4))
    world.tick()
    world.compute()

    assert world.state.tasks[TASK].head == 1
