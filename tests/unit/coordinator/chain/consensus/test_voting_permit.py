"""Leave to vote again counts if the chain says that an operator gave it."""

from dataclasses import replace

import pytest

from starling.coordinator.chain.chain_step import silence
from starling.coordinator.chain.consensus.voting_permit import RESUMPTION, resume
from starling.protocol.errors import SignatureError
from starling.protocol.ids import PublicKey
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_genesis import OPERATOR, STRANGER

HEIGHT = 1


def says(world: SmallChain, operator: PublicKey | None) -> str:
    """What keeps a validator silent that was resumed, on a chain of this state."""
    me = SingleValidator(
        world.genesis, world.validators[0], votes_from=HEIGHT, resumed_by=operator
    )
    tip = replace(me.state.tip, tree=world.tree)
    return silence(me.settings, replace(me.state, tip=tip), 0.0)


def test_word_of_an_operator_counts() -> None:
    assert says(SmallChain(4), OPERATOR.public) == ""
    assert says(SmallChain(4), None) == ""


def test_word_of_nobody_counts_not() -> None:
    assert "no operator" in says(SmallChain(4), STRANGER.public)


def test_word_of_an_operator_that_was_admitted_later_counts() -> None:
    world = SmallChain(4)
    world.must(world.operator(STRANGER))
    assert says(world, STRANGER.public) == ""


def test_word_of_an_operator_that_was_taken_out_counts_not() -> None:
    world = SmallChain(4)
    world.must(world.operator(STRANGER))
    world.must(world.operator(OPERATOR, 0))
    assert "no operator" in says(world, OPERATOR.public)
    assert says(world, STRANGER.public) == ""


def test_who_was_resumed_by_nobody_casts_no_vote() -> None:
    world = SmallChain(1)
    for operator, blocks in ((STRANGER, 0), (OPERATOR, 1)):
        me = SingleValidator(
            world.genesis,
            world.validators[0],
            votes_from=HEIGHT,
            resumed_by=operator.public,
        )
        me.submit(world.register(0))
        me.tick(1.0)
        assert len(me.blocks()) == blocks
        assert bool(me.votes()) == bool(blocks)


def test_word_is_for_one_key_and_signed() -> None:
    world = SmallChain(4)
    mine, other = (key.public for key in world.validators[:2])
    word = resume(OPERATOR, world.chain_id, mine, 7)
    RESUMPTION.unpack(RESUMPTION.pack(word)).check(world.chain_id, mine)
    with pytest.raises(SignatureError, match="another validator"):
        word.check(world.chain_id, other)
    with pytest.raises(SignatureError):
        replace(word, height=6).check(world.chain_id, mine)
    with pytest.raises(SignatureError):
        replace(word, operator=STRANGER.public).check(world.chain_id, mine)
