"""Who lacks a block for which others vote is given it in time, by enough of them."""

from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import (
    STATUS,
    FrameSubject,
    ValidatorStatus,
)
from starling.protocol.chain.blocks import BLOCK
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash
from tests.unit.coordinator.chain.gossip.test_certificate_gossip import (
    LIAR,
    ME,
    PREVOTE,
    commit,
    receive,
    receive_votes,
    start,
    vote,
)
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain


def said_status(world: SmallChain, height: int, counter: int) -> bytes:
    """That somebody decides a height, and holds nothing of it."""
    key = world.validators[LIAR]
    bare = ValidatorStatus(
        key.public,
        counter,
        height,
        BlockHash(world.chain_id),
        0,
        (),
        b"",
        (),
        bytes(SIGNATURE_BYTES),
    )
    signed = replace(bare, signature=key.sign(bare.signed_bytes(world.chain_id)))
    packed = STATUS.pack(signed)
    return gossip_messages.frame(FrameSubject.STATUS, packed)


@pytest.mark.parametrize(("voters", "asks"), [((3,), False), ((1, 3), True)])
def test_block_that_more_than_f_prevote_is_asked_for_in_time(
    voters: tuple[int, ...], asks: bool
) -> None:
    world, me, proposal = start()
    me.tick(0.9)
    receive_votes(me, *(vote(world, who, PREVOTE, proposal.block_id) for who in voters))
    soon_s = me.state.status_said_s + me.settings.status_s / 2
    assert (me.state.status_at_s == soon_s) == asks


def test_block_that_more_than_f_prevote_is_given_at_once_by_as_many() -> None:
    world, me, proposal = start()
    receive_votes(me, *(vote(world, who, PREVOTE, proposal.block_id) for who in (1, 3)))
    me.sent.clear()
    me.tick(3.0)
    (asked,) = (
        payload
        for payload in me.sent
        if gossip_messages.FRAME.unpack(payload).subject == FrameSubject.STATUS
    )
    given = gossip_messages.wrap_proposal(proposal)
    to = []
    for who in (0, 1, 3):
        other = SingleValidator(world.genesis, world.validators[who])
        receive(other, given)
        receive_votes(
            other, *(vote(world, one, PREVOTE, proposal.block_id) for one in (1, 3))
        )
        other.sent.clear()
        receive(other, asked, 3.0)
        to += [other.only.get(payload) for payload in other.sent if payload == given]
    assert to == [world.validators[ME].public] * me.state.validator.skip


@pytest.mark.parametrize(("first", "answers"), [(1, 1), (None, 0)])
def test_who_was_behind_is_sent_at_once_what_it_missed_meanwhile(
    first: int | None, answers: int
) -> None:
    world, _, proposal = start()
    decided = gossip_messages.wrap_decision(
        BLOCK.unpack(proposal.block), commit(world, proposal.block_id)
    )
    missed = gossip_messages.wrap_vote(vote(world, LIAR, PREVOTE, None, height=2))
    given = 0
    for who in (0, 1, 2):
        other = SingleValidator(world.genesis, world.validators[who])
        receive(other, decided)
        receive(other, missed)
        if first is not None:
            receive(other, said_status(world, first, counter=1), 2.0)
        other.sent.clear()
        receive(other, said_status(world, 2, counter=2), 3.0)
        given += other.sent.count(missed)
    assert given == answers
