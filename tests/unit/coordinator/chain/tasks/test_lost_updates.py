"""FORFEIT: what ends a stall, what does not count, and every refusal."""

from collections.abc import Callable

import pytest

from starling.coordinator.chain.execution.state_machine import apply, execute
from starling.coordinator.chain.state import board_records, task_records
from starling.coordinator.chain.state.overlay import VersionFinal
from starling.protocol.errors import Reason
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.privacy.gaussian_dp import charge_from_sigma
from starling.protocol.wire.envelope import Envelope, MessageKind
from starling.protocol.wire.message_bodies import FORFEIT, Forfeit
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import board_id, board_key
from tests.unit.coordinator.fixtures.small_task import PRIVATE_SPEC, SIGMA_MICRO, SPEC
from tests.unit.coordinator.fixtures.state_invariants import check_invariants

HALF = SPEC.aggregation.buffer // 2
PATIENCE = SPEC.aggregation.patience


def forfeit(
    world: SmallChain, number: int, base: int = 0, task: int = 0, charge: int = 0
) -> Envelope:
    body = Forfeit(TaskId(task), Version(base), charge)
    return world.sign(board_key(number), MessageKind.FORFEIT, FORFEIT.pack(body))


def wait(world: SmallChain, blocks: int = PATIENCE + 1) -> None:
    for _ in range(blocks):
        world.end_block()
    check_invariants(world.tree)


@pytest.mark.parametrize("lost", range(1, HALF + 1))
def test_forfeits_and_updates_that_make_half_a_buffer_are_cut(lost: int) -> None:
    world = opened()
    waiting = HALF - lost
    world.must(*(world.update(number) for number in range(waiting)))
    world.must(*(forfeit(world, 4 + number) for number in range(lost)))

    wait(world)

    job = task_records.open_job(world.tree, 0)
    if waiting:
        assert job is not None
        assert len(job.members) == waiting
    else:
        assert task_records.head(world.tree, 0) == 1


def test_forfeits_wait_for_their_patience() -> None:
    world = opened()
    world.must(*(forfeit(world, number) for number in range(HALF)))
    wait(world, PATIENCE)
    assert task_records.head(world.tree, 0) == 0
    world.end_block()
    assert task_records.head(world.tree, 0) == 1


def test_less_than_half_a_buffer_with_forfeits_waits() -> None:
    world = opened()
    world.must(*(forfeit(world, number) for number in range(HALF - 1)))
    wait(world, 5 * PATIENCE)
    assert task_records.head(world.tree, 0) == 0


def test_renewed_version_is_the_same_model_for_which_all_may_sign() -> None:
    world = opened()
    world.must(*(forfeit(world, number) for number in range(HALF)))
    wait(world)

    digest = task_records.version(world.tree, 0, 0)
    assert task_records.version(world.tree, 0, 1) == digest
    assert task_records.waiting(world.tree) == ()
    world.must(*(world.update(number, 1) for number in range(SPEC.aggregation.buffer)))
    job = task_records.open_job(world.tree, 0)
    assert job is not None
    assert job.version == 2


def test_renewed_version_is_told() -> None:
    world = opened()
    world.must(*(forfeit(world, number) for number in range(HALF)))
    wait(world, PATIENCE)

    told = execute(world.tree, world.context, ()).happenings

    digest = task_records.version(world.tree, 0, 0)
    assert digest is not None
    assert told == (VersionFinal(TaskId(0), Version(1), digest),)


def test_forfeits_of_an_older_head_do_not_count() -> None:
    world = opened()
    world.must(*(forfeit(world, number) for number in range(HALF - 1)))
    world.must(*(world.update(4 + n) for n in range(SPEC.aggregation.buffer)))
    world.must(world.attest(1, H(b"model")))
    assert task_records.head(world.tree, 0) == 1

    world.must(forfeit(world, 0, 1))
    wait(world, 5 * PATIENCE)

    assert task_records.head(world.tree, 0) == 1


def test_forfeit_adds_its_charge_and_no_update() -> None:
    world = opened()
    world.must(forfeit(world, 0, charge=77))
    board = board_records.board(world.tree, board_id(0))
    assert board is not None
    assert (board.updates, board.charge) == (0, 77)


def test_board_that_forfeited_signs_no_update_for_that_base() -> None:
    world = opened()
    world.must(forfeit(world, 0))
    assert world.do(world.update(0)).code == Reason.EQUIVOCATION


def revoked(world: SmallChain) -> Envelope:
    world.must(world.revoke(0))
    return forfeit(world, 0)


def after_an_update(world: SmallChain) -> Envelope:
    world.must(world.update(0))
    return forfeit(world, 0)


def twice(world: SmallChain) -> Envelope:
    world.must(forfeit(world, 0))
    return forfeit(world, 0)


def with_the_next_key(world: SmallChain) -> Envelope:
    world.must(forfeit(world, 0), world.rotate(0, board_key(70)))
    return forfeit(world, 70)


def behind(world: SmallChain) -> Envelope:
    world.advance(0)
    return forfeit(world, 5, 0)


REFUSED: dict[str, tuple[Callable[[SmallChain], Envelope], Reason]] = {
    "stranger": (lambda world: forfeit(world, 99), Reason.NOT_ENROLLED),
    "revoked": (revoked, Reason.NOT_ENROLLED),
    "no-task": (lambda world: forfeit(world, 0, task=3), Reason.UNKNOWN_TASK),
    "updated": (after_an_update, Reason.ALREADY_KNOWN),
    "twice": (twice, Reason.ALREADY_KNOWN),
    "with-the-next-key": (with_the_next_key, Reason.ALREADY_KNOWN),
    "future": (lambda world: forfeit(world, 0, 9), Reason.MALFORMED),
    "not-the-head": (behind, Reason.STALE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_forfeit_refused_changes_nothing_and_names_why(name: str) -> None:
    make, reason = REFUSED[name]
    world = opened()
    envelope = make(world)

    changes, result = apply(world.tree, world.context, envelope)

    assert result.code == reason
    assert not changes


def test_forfeit_must_state_what_the_task_costs() -> None:
    world = opened(spec=PRIVATE_SPEC)
    least = charge_from_sigma(SIGMA_MICRO)
    assert world.do(forfeit(world, 0, charge=least - 1)).code == Reason.POLICY_MISMATCH
    assert world.do(forfeit(world, 0, charge=least)).code == 0
