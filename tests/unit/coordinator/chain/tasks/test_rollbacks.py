"""ROLLBACK: a quorum's version in the newest one's place, and what it ends."""

from dataclasses import replace

import pytest

from starling.coordinator.chain.state import (
    board_records,
    rollback_records,
    task_records,
    validator_records,
)
from starling.coordinator.chain.tasks import evaluations
from starling.protocol.chain.task_rollback import (
    ROLLBACK,
    TaskRollback,
    rollback_key,
    rolled_version,
)
from starling.protocol.errors import DecodeError, ProofError, Reason
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.learning.progress_guard import GuardPolicy
from starling.protocol.learning.task import ModelDigests, version_digest
from starling.protocol.wire.envelope import Envelope, MessageKind
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import board_id
from tests.unit.coordinator.fixtures.small_task import SPEC
from tests.unit.coordinator.fixtures.state_invariants import check_invariants
from tests.unit.coordinator.fixtures.state_views import pending

AGAIN = ModelDigests(*(5 * [H(b"made again")]))


def rollback(
    world: SmallChain, again: int = 2, task: int = 0, voters: list[int] | None = None
) -> Envelope:
    body = TaskRollback(TaskId(task), Version(1), Version(again), AGAIN, (board_id(3),))
    return world.motion(MessageKind.ROLLBACK, ROLLBACK.pack(body), voters)


@pytest.fixture
def world() -> SmallChain:
    """Four validators, two versions, and a job that is open."""
    made = opened(validators=4, spec=replace(SPEC, guard=GuardPolicy(2)))
    made.advance(0)
    made.advance(1)
    made.must(*(made.update(number, 2) for number in range(5)))
    assert task_records.open_job(made.tree, 0) is not None
    return made


def test_version_of_a_quorum_becomes_the_newest_and_is_remembered(
    world: SmallChain,
) -> None:
    world.must(rollback(world))

    assert task_records.head(world.tree, 0) == 3
    assert task_records.version(world.tree, 0, 3) == version_digest(AGAIN)
    kept = rollback_records.rollback(world.tree, 0, 3)
    assert kept is not None
    assert (kept.again, kept.without) == (2, (board_id(3),))
    assert rollback_records.newest_rollback(world.tree, 0) == 3
    assert rollback_records.rollback(world.tree, 0, 2) is None
    check_invariants(world.tree)


def test_open_job_and_what_waits_are_dropped_without_blame(world: SmallChain) -> None:
    world.must(rollback(world))

    assert task_records.open_job(world.tree, 0) is None
    assert pending(world.tree, 0) == []
    late = world.do(world.attest(3, H(b"the dropped job")))
    assert late.code == Reason.STALE
    me = world.validators[0].public
    assert validator_records.dissent(world.tree, 0, me) is None
    assert board_records.fault(world.tree, board_id(0)) is None


def test_only_what_is_trained_from_the_rollback_on_counts(world: SmallChain) -> None:
    world.must(rollback(world))

    assert world.do(world.update(5, 2)).code == Reason.STALE
    world.advance(3)
    assert task_records.head(world.tree, 0) == 4
    check_invariants(world.tree)


def test_patience_counts_anew(world: SmallChain) -> None:
    for version, loss in ((0, 5), (1, 6), (2, 7)):
        for who in range(3):
            world.must(world.evaluation(version, loss, who))
    assert evaluations.paused(world.tree, 0)

    world.must(rollback(world))

    assert not evaluations.paused(world.tree, 0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"again": 9}, Reason.STALE),
        ({"task": 5}, Reason.UNKNOWN_TASK),
        ({"voters": [0, 1]}, Reason.NOT_AUTHORISED),
    ],
)
def test_rollback_is_refused(
    world: SmallChain, options: dict[str, int], reason: Reason
) -> None:
    before = world.tree.root()
    assert world.do(rollback(world, **options)).code == reason  # type: ignore[arg-type]  # a table's
    assert world.tree.root() == before


def test_rollback_is_carried_once(world: SmallChain) -> None:
    motion = rollback(world)
    world.must(motion)
    assert world.do(motion).code == Reason.STALE


def test_rollback_leaves_somebody_out_of_something() -> None:
    with pytest.raises(DecodeError):
        TaskRollback(TaskId(0), Version(2), Version(2), AGAIN, (board_id(1),))
    boards = sorted([board_id(1), board_id(2)])
    with pytest.raises(DecodeError):
        TaskRollback(TaskId(0), Version(1), Version(2), AGAIN, tuple(reversed(boards)))


def test_key_of_a_rollback_names_its_version_and_nothing_else() -> None:
    assert rolled_version(rollback_key(3, 17), 3) == 17
    for other in (rollback_key(4, 17), b"version/3/17", b"rollback/3/017", b"17"):
        with pytest.raises(ProofError):
            rolled_version(other, 3)
