"""FORFEIT: what ends a stall, what does not count, and every refusal."""

from collections.abc import Callable

import pytest

from coordinator.ledger import views
from coordinator.ledger.draft import VersionFinal
from coordinator.ledger.state import apply, execute
from protocol.accounting import charge_from_sigma
from protocol.envelope import Envelope, Kind
from protocol.errors import Reason
from protocol.ids import H, TaskId, Version
from protocol.messages import FORFEIT, Forfeit
from tests.unit.coordinator.ledger.invariants import check_invariants
from tests.unit.coordinator.ledger.world import (
    PRIVATE_SPEC,
    SIGMA_MICRO,
    SPEC,
    World,
    board_id,
    board_key,
    opened,
)

HALF = SPEC.aggregation.buffer // 2
PATIENCE = SPEC.aggregation.patience


def forfeit(
    world: World, number: int, base: int = 0, task: int = 0, charge: int = 0
) -> Envelope:
    body = Forfeit(TaskId(task), Version(base), charge)
    return world.sign(board_key(number), Kind.FORFEIT, FORFEIT.pack(body))


def wait(world: World, blocks: int = PATIENCE + 1) -> None:
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

    job = views.open_job(world.tree, 0)
    if waiting:
        assert job is not None
        assert len(job.members) == waiting
    else:
        assert views.head(world.tree, 0) == 1


def test_forfeits_wait_for_their_patience() -> None:
    world = opened()
    world.must(*(forfeit(world, number) for number in range(HALF)))
    wait(world, PATIENCE)
    assert views.head(world.tree, 0) == 0
    world.end_block()
    assert views.head(world.tree, 0) == 1


def test_less_than_half_a_buffer_with_forfeits_waits() -> None:
    world = opened()
    world.must(*(forfeit(world, number) for number in range(HALF - 1)))
    wait(world, 5 * PATIENCE)
    assert views.head(world.tree, 0) == 0


def test_renewed_version_is_the_same_model_for_which_all_may_sign() -> None:
    world = opened()
    world.must(*(forfeit(world, number) for number in range(HALF)))
    wait(world)

    digest = views.version(world.tree, 0, 0)
    assert views.version(world.tree, 0, 1) == digest
    assert views.waiting(world.tree) == ()
    world.must(*(world.update(number, 1) for number in range(SPEC.aggregation.buffer)))
    job = views.open_job(world.tree, 0)
    assert job is not None
    assert job.version == 2


def test_renewed_version_is_told() -> None:
    world = opened()
    world.must(*(forfeit(world, number) for number in range(HALF)))
    wait(world, PATIENCE)

    told = execute(world.tree, world.context, ()).happenings

    digest = views.version(world.tree, 0, 0)
    assert digest is not None
    assert told == (VersionFinal(TaskId(0), Version(1), digest),)


def test_forfeits_of_an_older_head_do_not_count() -> None:
    world = opened()
    world.must(*(forfeit(world, number) for number in range(HALF - 1)))
    world.must(*(world.update(4 + n) for n in range(SPEC.aggregation.buffer)))
    world.must(world.attest(1, H(b"model")))
    assert views.head(world.tree, 0) == 1

    world.must(forfeit(world, 0, 1))
    wait(world, 5 * PATIENCE)

    assert views.head(world.tree, 0) == 1


def test_forfeit_adds_its_charge_and_no_update() -> None:
    world = opened()
    world.must(forfeit(world, 0, charge=77))
    board = views.board(world.tree, board_id(0))
    assert board is not None
    assert (board.updates, board.charge) == (0, 77)


def test_board_that_forfeited_signs_no_update_for_that_base() -> None:
    world = opened()
    world.must(forfeit(world, 0))
    assert world.do(world.update(0)).code == Reason.EQUIVOCATION


def revoked(world: World) -> Envelope:
    world.must(world.revoke(0))
    return forfeit(world, 0)


def after_an_update(world: World) -> Envelope:
    world.must(world.update(0))
    return forfeit(world, 0)


def twice(world: World) -> Envelope:
    world.must(forfeit(world, 0))
    return forfeit(world, 0)


def with_the_next_key(world: World) -> Envelope:
    world.must(forfeit(world, 0), world.rotate(0, board_key(70)))
    return forfeit(world, 70)


def behind(world: World) -> Envelope:
    world.advance(0)
    return forfeit(world, 5, 0)


REFUSED: dict[str, tuple[Callable[[World], Envelope], Reason]] = {
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
