"""Attestations are counted by the set that decides, also when it changes."""

from dataclasses import replace

import pytest

from starling.coordinator.chain.execution.state_machine import BlockExecution, execute
from starling.coordinator.chain.governance import validator_set
from starling.coordinator.chain.governance.validator_set import DELAY_BLOCKS
from starling.coordinator.chain.state import task_records, validator_records
from starling.coordinator.chain.state.overlay import (
    AttestationsSplit,
    JobCut,
    VersionFinal,
)
from starling.coordinator.chain.state.task_records import REPLACEMENTS_MAX
from starling.coordinator.chain.state.validator_records import MismatchRecord
from starling.protocol.errors import Reason
from starling.protocol.ids import Digest, H, TaskId, Version
from starling.protocol.learning.task import TASK
from starling.protocol.wire.envelope import Envelope, MessageKind
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import OPERATOR
from tests.unit.coordinator.fixtures.small_task import SPEC
from tests.unit.coordinator.fixtures.state_invariants import (
    check_invariants,
    check_members,
)

RIGHT, WRONG, OTHER = H(b"right"), H(b"wrong"), H(b"other")
NEW = 40


def block(world: SmallChain, *envelopes: Envelope) -> BlockExecution:
    """Makes a block of transactions that must not be refused."""
    made = execute(world.tree, world.context, envelopes)
    assert [result.code for result in made.results] == [0] * len(envelopes)
    world.tree, world.height = made.tree, world.height + 1
    check_invariants(world.tree)
    check_members(world.tree, world.genesis, world.height)
    return made


def working(members: int) -> SmallChain:
    """A world with an open job of version 1."""
    world = opened(validators=members)
    world.must(*(world.update(number) for number in range(4)))
    return world


def attestors(world: SmallChain) -> list[bytes]:
    return [entry.validator for entry in task_records.attestations(world.tree, 0)]


def dissents(world: SmallChain) -> set[tuple[int, int]]:
    """Who was outvoted, by task and place."""
    return {
        (task, place)
        for task in range(2)
        for place, key in enumerate(world.validators)
        if validator_records.dissent(world.tree, task, key.public) is not None
    }


def test_smaller_set_counts_what_is_attested_already() -> None:
    world = working(5)
    world.must(*(world.attest(1, RIGHT, at) for at in (0, 2, 4)))
    block(world, world.leave(world.validators[3]))
    block(world)
    assert task_records.head(world.tree, 0) == 0

    made = block(world)

    assert made.happenings == (VersionFinal(TaskId(0), Version(1), RIGHT),)
    assert task_records.head(world.tree, 0) == 1
    assert attestors(world) == []


def test_smaller_set_makes_final_and_the_next_job_is_cut() -> None:
    world = working(5)
    world.must(*(world.update(number) for number in range(4, 8)))
    world.must(*(world.attest(1, RIGHT, at) for at in (0, 2, 4)))
    block(world, world.leave(world.validators[3]))
    block(world)

    made = block(world)

    assert made.happenings[-1] == JobCut(TaskId(0), Version(2))
    assert task_records.waiting(world.tree) == ()


def test_smaller_set_notes_dissent_of_its_members_only() -> None:
    world = opened(validators=6)
    world.must(*(world.update(number) for number in range(4)))
    world.must(world.attest(1, WRONG, 1), world.attest(1, WRONG, 5))
    world.must(*(world.attest(1, RIGHT, at) for at in (0, 2, 3)))
    block(world, world.leave(world.validators[1], voters=range(6)))
    block(world)
    block(world, world.leave(world.validators[4], voters=(0, 2, 3, 4)))
    block(world)
    assert task_records.head(world.tree, 0) == 0

    block(world)

    assert task_records.version(world.tree, 0, 1) == RIGHT
    found = [
        validator_records.dissent(world.tree, 0, one.public) for one in world.validators
    ]
    assert found == [None] * 5 + [MismatchRecord(1, Version(1), WRONG)]


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
    world.must(world.sign(OPERATOR, MessageKind.TASK, TASK.pack(second)))
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
    before = task_records.attestations(world.tree, 0)
    assert block(world).happenings == ()
    assert task_records.attestations(world.tree, 0) == before


def test_next_change_in_the_first_block_of_a_set_does_not_hide_it() -> None:
    world = working(5)
    world.must(*(world.attest(1, RIGHT, at) for at in (0, 2, 4)))
    block(world, world.leave(world.validators[3]))
    block(world)
    block(world, world.join(NEW, voters=(0, 1, 2)))
    assert task_records.head(world.tree, 0) == 1


def test_first_attestation_of_another_digest_stands() -> None:
    world = working(4)
    world.must(world.attest(1, WRONG, 0))
    assert world.do(world.attest(1, RIGHT, 0)).code == Reason.EQUIVOCATION


def split(*others: Digest) -> SmallChain:
    """A job of four of whom two are right; `others` is what the rest attested."""
    world = working(4)
    world.must(*(world.attest(1, RIGHT, at) for at in range(2)))
    world.must(*(world.attest(1, digest, 2 + at) for at, digest in enumerate(others)))
    return world


def test_split_job_takes_another_digest_of_who_was_wrong() -> None:
    world = split(WRONG, WRONG)
    assert task_records.head(world.tree, 0) == 0

    world.must(world.attest(1, RIGHT, 3))

    assert task_records.version(world.tree, 0, 1) == RIGHT
    assert dissents(world) == {(0, 2), (0, 3)}
    noted = validator_records.dissent(world.tree, 0, world.validators[3].public)
    assert noted == MismatchRecord(1, Version(1), WRONG)
    check_invariants(world.tree)


def test_job_that_may_still_end_takes_no_second_digest() -> None:
    world = split(WRONG)
    for at in range(3):
        again = world.do(world.attest(1, OTHER, at))
        assert again.code == Reason.EQUIVOCATION
    world.must(world.attest(1, RIGHT, 3))
    assert task_records.version(world.tree, 0, 1) == RIGHT


def test_split_is_told_once_when_the_last_chance_is_gone() -> None:
    world = split(WRONG)
    made = block(world, world.attest(1, OTHER, 3), world.attest(1, WRONG, 3))
    assert made.happenings == (AttestationsSplit(TaskId(0), Version(1)),)


def test_who_was_right_first_and_last_is_named_for_what_it_said_between() -> None:
    world = split(WRONG, WRONG)
    world.must(world.attest(1, OTHER, 0), world.attest(1, RIGHT, 0))
    world.must(world.attest(1, RIGHT, 3))
    assert dissents(world) == {(0, 0), (0, 2), (0, 3)}


def test_another_digest_is_taken_so_often_and_the_same_one_never() -> None:
    world = split(WRONG, WRONG)
    for number in range(REPLACEMENTS_MAX):
        world.must(world.attest(1, H(b"%d" % number), 3))
    again = world.do(world.attest(1, H(b"%d" % number), 3))
    assert again.code == Reason.ALREADY_KNOWN
    assert world.do(world.attest(1, RIGHT, 3)).code == Reason.EQUIVOCATION
    world.must(world.attest(1, RIGHT, 2))
    assert task_records.head(world.tree, 0) == 1


def test_more_liars_than_allowed_for_make_nothing_final_without_a_correct_one() -> None:
    """Each counts once, with its last word: q - 1 liars are never a quorum."""
    world = split(WRONG, WRONG)
    for number in range(REPLACEMENTS_MAX):
        for at in (2, 3):
            world.must(world.attest(1, H(b"%d" % number), at))
    assert task_records.head(world.tree, 0) == 0


def test_removal_of_who_is_wrong_ends_a_split() -> None:
    world = opened(validators=5)
    world.must(*(world.update(number) for number in range(4)))
    world.must(*(world.attest(1, RIGHT, at) for at in range(3)))
    world.must(*(world.attest(1, WRONG, at) for at in (3, 4)))
    block(world, world.leave(world.validators[4], voters=range(4)))
    block(world)
    made = block(world)
    assert made.happenings[-1] == VersionFinal(TaskId(0), Version(1), RIGHT)


@pytest.mark.parametrize("ahead", range(5))
def test_set_is_another_one_at_its_first_height_only(ahead: int) -> None:
    world = opened(validators=4)
    gone = world.validators[2]
    world.must(world.leave(gone))
    world.height += ahead
    expected = (gone.public,) if ahead == DELAY_BLOCKS else None
    assert validator_set.left(world.tree, world.context) == expected
