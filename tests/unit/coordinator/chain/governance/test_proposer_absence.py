"""Who misses its turn to propose is passed over until it is back."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.chain.consensus.proposer_order import turns
from starling.coordinator.chain.execution.state_machine import execute
from starling.coordinator.chain.governance.expiry import CLOCK
from starling.coordinator.chain.governance.proposer_absence import (
    WAIT_HEIGHTS_MAX,
    back_from,
    roster_of,
)
from starling.coordinator.chain.state import validator_records
from starling.coordinator.chain.state.validator_records import AbsenceRecord
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import Reason
from starling.protocol.wire.envelope import Envelope, MessageKind
from starling.protocol.wire.message_bodies import PRESENT, Present
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_genesis import STRANGER, validator_key
from tests.unit.coordinator.fixtures.state_invariants import check_members


def order(world: SmallChain) -> tuple[int, ...]:
    return roster_of(world.tree, world.genesis, world.height).order


def block(world: SmallChain, proposer: int, *envelopes: Envelope) -> list[int]:
    """Makes a block by a validator; the codes of its transactions."""
    context = replace(world.context, proposer=proposer)
    made = execute(world.tree, context, envelopes)
    world.tree, world.height = made.tree, world.height + 1
    return [result.code for result in made.results]


def present(world: SmallChain, who: SigningKey, missed: int) -> Envelope:
    return world.sign(who, MessageKind.PRESENT, PRESENT.pack(Present(missed)))


def absence(world: SmallChain, place: int) -> AbsenceRecord | None:
    return validator_records.absence(world.tree, world.validators[place].public)


@given(st.integers(1, 32), st.integers(0, 1 << 40), st.data())
def test_order_is_a_permutation_with_the_absent_last(
    count: int, height: int, data: st.DataObject
) -> None:
    away = data.draw(st.sets(st.integers(0, count - 1)))
    found = turns(count, height, away)
    assert sorted(found) == list(range(count))
    here = [place for place in found if place not in away]
    assert found[: len(here)] == tuple(here)


@pytest.mark.parametrize("height", range(1, 9))
def test_nobody_absent_leads_in_turn(height: int) -> None:
    assert turns(4, height, ()) == tuple((height + i) % 4 for i in range(4))


def test_block_of_the_second_passes_over_the_first() -> None:
    world = SmallChain(4)
    assert order(world) == (1, 2, 3, 0)
    block(world, 2)
    assert absence(world, 1) == AbsenceRecord(1, 1, 1)
    assert order(world) == (2, 3, 0, 1)
    for _ in range(4):
        assert order(world)[-1] == 1
        block(world, order(world)[0])


def test_block_of_the_first_says_nothing_of_others() -> None:
    world = SmallChain(4)
    before = dict(world.tree.items())
    block(world, 1)
    after = dict(world.tree.items())
    del after[CLOCK.key()]
    assert after == before


def test_own_block_makes_good() -> None:
    world = SmallChain(4)
    block(world, 2)
    block(world, 1)
    assert absence(world, 1) is None
    assert absence(world, 2) == AbsenceRecord(1, 2, 1)


def test_present_gives_the_turns_back_and_misses_count_on() -> None:
    world = SmallChain(4)
    block(world, 2)
    assert block(world, 2, present(world, world.validators[1], 1)) == [0]
    assert absence(world, 1) == AbsenceRecord(1, 1, 0)
    while order(world)[0] != 1:
        block(world, order(world)[0])
    missed = world.height
    block(world, 2)
    assert absence(world, 1) == AbsenceRecord(2, missed, 1)


@pytest.mark.parametrize(
    ("misses", "wait"), [(1, 1), (2, 2), (3, 4), (11, 1024), (64, WAIT_HEIGHTS_MAX)]
)
def test_wait_doubles_with_each_miss_up_to_a_bound(misses: int, wait: int) -> None:
    assert back_from(AbsenceRecord(misses, 100, 1)) == 100 + wait


@pytest.mark.parametrize(
    ("who", "missed", "reason"),
    [
        pytest.param("stranger", 1, Reason.NOT_AUTHORISED, id="stranger"),
        pytest.param("present", 1, Reason.ALREADY_KNOWN, id="not-passed-over"),
        pytest.param("absent", 2, Reason.STALE, id="another-miss"),
    ],
)
def test_present_is_refused(who: str, missed: int, reason: Reason) -> None:
    world = SmallChain(4)
    block(world, 2)
    keys = {
        "stranger": STRANGER,
        "present": world.validators[3],
        "absent": world.validators[1],
    }
    assert block(world, 2, present(world, keys[who], missed)) == [reason]
    assert absence(world, 1) == AbsenceRecord(1, 1, 1)


def test_present_too_soon_after_the_second_miss_is_refused() -> None:
    world = SmallChain(4)
    block(world, 2)
    block(world, 2, present(world, world.validators[1], 1))
    world.height = 5
    block(world, 2)
    again = present(world, world.validators[1], 5)
    assert block(world, 2, again) == [Reason.BUSY]
    assert block(world, 3, again) == [0]


def test_misses_are_counted_up_to_a_bound() -> None:
    world = SmallChain(4)
    for _ in range(100):
        block(world, (world.height + 1) % 4)
    found = [absence(world, place) for place in range(4)]
    assert all(one is None or one.misses <= 64 for one in found)


def test_misses_of_who_left_are_forgotten_and_it_comes_back_without_them() -> None:
    world = SmallChain(4)
    gone = world.validators[1]
    block(world, 2)
    block(world, 2, world.leave(gone, voters=range(4)))
    block(world, 2)
    assert absence(world, 1) is not None

    block(world, 0)

    assert absence(world, 1) is None
    check_members(world.tree, world.genesis, world.height)
    number = [validator_key(each) for each in range(4)].index(gone)
    assert block(world, 0, world.join(number, voters=(0, 2, 3))) == [0]
    block(world, 0)
    while order(world)[0] != 1:
        block(world, order(world)[0])
    missed = world.height
    block(world, order(world)[1])
    assert absence(world, 1) == AbsenceRecord(1, missed, 1)


def test_order_of_a_block_is_the_one_before_its_transactions() -> None:
    world = SmallChain(4)
    block(world, 2)
    # Here validator 1 would come first, if it were back already.
    world.height = 5
    assert block(world, 2, present(world, world.validators[1], 1)) == [0]
    assert absence(world, 1) == AbsenceRecord(1, 1, 0)
