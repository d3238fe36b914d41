"""Attestations are counted by the set that decides, also when it changes."""

from dataclasses import replace

import pytest

from coordinator.ledger import validators, views
from coordinator.ledger.draft import JobCut, VersionFinal
from coordinator.ledger.records import Dissent
from coordinator.ledger.state import Execution, execute
from coordinator.ledger.validators import DELAY_BLOCKS
from protocol.envelope import Envelope, Kind
from protocol.errors import Reason
from protocol.ids import H, TaskId, Version
from protocol.task import TASK
from tests.unit.coordinator.ledger.invariants import check_invariants, check_members
from tests.unit.coordinator.ledger.world import OPERATOR, SPEC, World, opened

RIGHT, WRONG = H(b"right"), H(b"wrong")
NEW = 40


def block(world: World, *envelopes: Envelope) -> Execution:
    """Makes a block of transactions that must not be refused."""
    made = execute(world.tree, world.context, envelopes)
    assert [result.code for result in made.results] == [0] * len(envelopes)
    world.tree, world.height = made.tree, world.height + 1
    check_invariants(world.tree)
    check_members(world.tree, world.genesis, world.height)
    return made


def working(members: int) -> World:
    """A world with an open job of version 1."""
    world = opened(validators=members)
    world.must(*(world.update(number) for number in range(4)))
    return world


def attestors(world: World) -> list[bytes]:
    return [entry.validator for entry in views.attestations(world.tree, 0)]


def dissents(world: World) -> set[tuple[int, int]]:
    """Who was outvoted, by task and place."""
    return {
        (task, place)
        for task in range(2)
        for place, key in enumerate(world.validators)
        if views.dissent(world.tree, task, key.public) is not None
    }


def test_smaller_set_counts_what_is_attested_already() -> None:
    world = working(5)
    world.must(*(world.attest(1, RIGHT, at) for at in (0, 2, 4)))
    block(world, world.leave(world.validators[3]))
    block(world)
    assert views.head(world.tree, 0) == 0

    made = block(world)

    assert made.happenings == (VersionFinal(TaskId(0), Version(1), RIGHT),)
    assert views.head(world.tree, 0) == 1
    assert attestors(world) == []


def test_smaller_set_makes_final_and_the_next_job_is_cut() -> None:
    world = working(5)
    world.must(*(world.update(number) for number in range(4, 8)))
    world.must(*(world.attest(1, RIGHT, at) for at in (0, 2, 4)))
    block(world, world.leave(world.validators[3]))
    block(world)

    made = block(world)

    assert made.happenings[-1] == JobCut(TaskId(0), Version(2))
    assert views.waiting(world.tree) == ()


def test_smaller_set_notes_dissent_of_its_members_only() -> None:
    world = opened(validators=6)
    world.must(*(world.update(number) for number in range(4)))
    world.must(world.attest(1, WRONG, 1), world.attest(1, WRONG, 5))
    world.must(*(world.attest(1, RIGHT, at) for at in (0, 2, 3)))
    block(world, world.leave(world.validators[1], voters=range(6)))
    block(world)
    block(world, world.leave(world.validators[4], voters=(0, 2, 3, 4)))
    block(world)
    assert views.head(world.tree, 0) == 0

    block(world)

    assert views.version(world.tree, 0, 1) == RIGHT
    found = [views.dissent(world.tree, 0, one.public) for one in world.validators]
    assert found == [None] * 5 + [Dissent(1, Version(1), WRONG)]


def test_attestation_of_who_left_is_forgotten() -> None:
    world = working(4)
    world.must(world.attest(1, RIGHT, 0), world.attest(1, WRONG, 1))
    block(world, world.leave(world.validators[0]))
    block(world)
    assert len(attestors(world)) == 2
    block(world)
    assert attestors(world) == [world.validators[1].public]


def test_dissent_of_who_left_is_forgotten_on_every_task() -> None:
    world = opened(validators=4)
    world.advance(0)
    second = replace(SPEC, name="second")
    world.must(world.sign(OPERATOR, Kind.TASK, TASK.pack(second)))
    world.must(*(world.update(number, task=TaskId(1)) for number in range(4)))
    world.must(world.attest(1, WRONG, 3, task=1), world.attest(1, WRONG, 3))
    world.must(*(world.attest(1, RIGHT, at, task=1) for at in range(3)))
    stays = world.do(world.attest(1, WRONG, 2, task=1))
    assert stays.code == 0
    block(world, world.leave(world.validators[3]))
    block(world)
    assert dissents(world) == {(0, 3), (1, 2), (1, 3)}
    block(world)
    assert dissents(world) == {(1, 2)}


def test_larger_set_makes_nothing_final() -> None:
    world = working(4)
    world.must(*(world.attest(1, RIGHT, at) for at in (0, 1)))
    block(world, world.join(NEW))
    block(world)
    before = views.attestations(world.tree, 0)
    assert block(world).happenings == ()
    assert views.attestations(world.tree, 0) == before


def test_next_change_in_the_first_block_of_a_set_does_not_hide_it() -> None:
    world = working(5)
    world.must(*(world.attest(1, RIGHT, at) for at in (0, 2, 4)))
    block(world, world.leave(world.validators[3]))
    block(world)
    block(world, world.join(NEW, voters=(0, 1, 2)))
    assert views.head(world.tree, 0) == 1


def test_first_attestation_of_another_digest_stands() -> None:
    world = working(4)
    world.must(world.attest(1, WRONG, 0))
    assert world.do(world.attest(1, RIGHT, 0)).code == Reason.EQUIVOCATION


@pytest.mark.parametrize("ahead", range(5))
def test_set_is_another_one_at_its_first_height_only(ahead: int) -> None:
    world = opened(validators=4)
    gone = world.validators[2]
    world.must(world.leave(gone))
    world.height += ahead
    expected = (gone.public,) if ahead == DELAY_BLOCKS else None
    assert validators.left(world.tree, world.context) == expected
