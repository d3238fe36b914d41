"""A task that gets worse is said so, and pauses before more is paid."""

from dataclasses import replace

import pytest

from starling.coordinator.chain.tasks import evaluations
from starling.coordinator.models import held_out_losses
from starling.coordinator.step.effects import LogLine, StoreMetrics
from starling.coordinator.step.events import BoardMessageArrived, VersionEvaluated
from starling.protocol.chain.light_client import version_key
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.progress_guard import RESUME, GuardPolicy, Resume
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import REGISTER, Register
from tests.unit.coordinator.fixtures.fleet_board import voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.single_coordinator import (
    GENESIS,
    FixtureBoard,
    SingleCoordinator,
    board,
    refusals,
    spec,
)

TASK = TaskId(0)
GUARD = GuardPolicy(2)


def evaluated(world: SingleCoordinator, version: int, loss: float) -> list[LogLine]:
    """Warnings that follow from a trial."""
    begun = len(world.effects)
    world.send(VersionEvaluated(TASK, Version(version), None, loss))
    world.tick()
    said = [each for each in world.effects[begun:] if isinstance(each, LogLine)]
    return [line for line in said if line.warns]


@pytest.fixture
def boards() -> list[FixtureBoard]:
    return [board(number) for number in range(4)]


@pytest.fixture
def world(boards: list[FixtureBoard]) -> SingleCoordinator:
    """Two versions, and a task that waits for two without a lower loss."""
    made = SingleCoordinator(task=replace(spec(), guard=GUARD))
    made.open(boards)
    for version in range(2):
        for each in boards[:2]:
            made.contribute(each, [1.0, -1.0, 0.5, 0.0], version)
        made.tick()
        made.compute()
    assert made.state.tasks[TASK].head == 2
    return made


def test_metrics_come_with_the_proof_of_their_version(
    world: SingleCoordinator,
) -> None:
    begun = len(world.effects)
    evaluated(world, 1, 0.4)

    (stored,) = [e for e in world.effects[begun:] if isinstance(e, StoreMetrics)]

    assert stored.proof is not None
    stored.proof.check(GENESIS)
    assert stored.proof.entry is not None
    shown = stored.proof.entry.proof
    assert shown.key == version_key(TASK, 1)
    assert shown.value == world.state.ledger.tree.get(version_key(TASK, 1))


def test_metrics_of_a_version_that_the_state_forgot_have_no_proof(
    world: SingleCoordinator,
) -> None:
    begun = len(world.effects)
    evaluated(world, 9, 0.4)

    (stored,) = [e for e in world.effects[begun:] if isinstance(e, StoreMetrics)]

    assert stored.proof is None


def pause(world: SingleCoordinator) -> list[LogLine]:
    assert evaluated(world, 0, 0.5) == []
    assert evaluated(world, 1, 0.51) == []
    return evaluated(world, 2, 0.9)


def test_version_that_is_worse_is_warned_of_once(boards: list[FixtureBoard]) -> None:
    world = SingleCoordinator(task=spec())
    world.open(boards)
    for each in boards[:2]:
        world.contribute(each, [1.0, -1.0, 0.5, 0.0])
    world.tick()
    world.compute()
    assert evaluated(world, 0, 0.5) == []
    (line,) = evaluated(world, 1, 0.9)
    assert "got worse: version 1 has held-out loss 0.9000, version 0 had" in line.text
    assert evaluated(world, 1, 0.9) == []
    assert world.check_in(boards[2], 1) is not None


def test_paused_task_gives_no_lease_and_says_why_until_resumed(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    (line,) = pause(world)
    assert "paused: held-out loss has not fallen for 2 versions" in line.text
    said = BoardMessageArrived(boards[2].device, boards[2].check_in(2))
    (refused,) = refusals(world.send(said), boards[2].device)
    assert refused.reason == Reason.PAUSED
    assert refused.retry_after_s > 0
    assert "has not fallen for 2 versions" in refused.detail

    world.operate(MessageKind.RESUME, RESUME.pack(Resume(TASK, Version(2))))

    assert world.check_in(boards[2], 2) is not None


def test_board_that_waited_when_the_task_paused_gets_its_lease_on_resumption(
    world: SingleCoordinator,
) -> None:
    full = [board(10 + number) for number in range(4)]
    for each in full:
        world.operate(MessageKind.REGISTER, REGISTER.pack(Register(each.key.public)))
    leases = [world.check_in(each, 2) for each in full]
    assert leases[-1] is None
    waiting = len(world.state.tasks[TASK].leases.waiting)
    assert waiting > 0
    pause(world)
    world.tick(1000.0)
    assert len(world.state.tasks[TASK].leases.granted) == 0
    assert len(world.state.tasks[TASK].leases.waiting) == waiting

    world.operate(MessageKind.RESUME, RESUME.pack(Resume(TASK, Version(2))))

    assert len(world.state.tasks[TASK].leases.waiting) < waiting


def test_update_that_was_paid_for_is_taken_while_the_task_pauses(
    world: SingleCoordinator, boards: list[FixtureBoard]
) -> None:
    leases = [world.check_in(each, 2) for each in boards[:2]]
    pause(world)
    for each, lease in zip(boards, leases, strict=False):
        assert lease is not None
        world.upload(each, each.upload(lease, [0.5] * 4))
    world.tick()
    world.compute()
    assert world.state.tasks[TASK].head == 3
    assert evaluated(world, 3, 0.1) == []
    assert world.check_in(boards[2], 3) is not None


def test_shown_figures_are_those_of_the_chain(world: SingleCoordinator) -> None:
    task = world.state.tasks[TASK]
    assert held_out_losses.shown(world.state.ledger.tree, task) is None
    pause(world)
    shown = held_out_losses.shown(world.state.ledger.tree, task)
    assert shown is not None
    assert (shown["best"], shown["best_loss"]) == (0, 0.5)
    assert (shown["newest"], shown["newest_loss"]) == (2, 0.9)
    assert shown["worse_by"] == pytest.approx(0.8)
    assert shown["is_worse"]
    assert shown["paused"]


def test_four_coordinators_pause_alike_though_one_of_them_lies() -> None:
    fleet = FourCoordinators(replace(spec(leases=16), guard=GUARD))
    boards = voters(4)
    fleet.open(boards)
    for version in range(2):
        for each in boards[:2]:
            fleet.contribute(each, version)
        fleet.run(2.0)
    assert set(fleet.heads()) == {2}
    for version, loss in ((0, 0.5), (1, 0.7), (2, 0.9)):
        for member in fleet.members:
            stated = 0.0 if member.index == 3 else loss + member.index / 100
            event = VersionEvaluated(TASK, Version(version), None, stated)
            fleet.tell_all(event, {member.index})
        fleet.run(2.0)

    trees = [member.state.ledger.tree for member in fleet.members]
    assert len({tree.root() for tree in trees}) == 1
    assert all(evaluations.paused(tree, 0) for tree in trees)
    found = evaluations.task_loss(trees[0], 0)
    assert found is not None
    assert (found.best, found.newest) == (0, 2)
    assert fleet.check_in(boards[2], 2) == []


def test_status_says_how_many_watch_a_task_and_whether_it_relies_on_them(
    world: SingleCoordinator,
) -> None:
    def who() -> dict[str, object]:
        return held_out_losses.evaluators(world.state.ledger, world.state.tasks[TASK])

    assert who() == {"found": 0, "needed": 1, "relied_on": True}
    evaluated(world, 2, 0.5)
    assert who() == {"found": 1, "needed": 1, "relied_on": True}
