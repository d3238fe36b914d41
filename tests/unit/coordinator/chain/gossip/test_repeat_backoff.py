"""What answers one peer goes to it alone, and ever more rarely."""

from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.chain_step import ChainStep
from starling.coordinator.chain.consensus.round_state import ClockReading
from starling.coordinator.chain.gossip import repeat_backoff
from starling.coordinator.chain.gossip_messages import (
    FrameSubject,
    ValidatorStatus,
)
from starling.coordinator.chain.node.node import SendGossip
from starling.protocol.chain.blocks import BLOCK, VoteType
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash
from tests.unit.coordinator.chain.node.validator_messages import (
    certificate,
    receive,
    start,
    vote,
)
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain

PEER = 3
SECONDS = 60


def after_one_block(who: int = 2) -> tuple[SmallChain, SingleValidator]:
    """A validator that decided height 1 and holds a vote of height 2."""
    world, _, proposal = start()
    me = SingleValidator(world.genesis, world.validators[who])
    whole = certificate(world, VoteType.PRECOMMIT, proposal.block_id)
    receive(me, gossip_messages.wrap_decision(BLOCK.unpack(proposal.block), whole))
    assert me.state.height == 1
    return world, me


def said(
    world: SmallChain, counter: int, height: int, tip: bytes | None = None
) -> bytes:
    key = world.validators[PEER]
    on, unsigned = BlockHash(tip or world.chain_id), bytes(SIGNATURE_BYTES)
    bare = ValidatorStatus(key.public, counter, height, on, 0, (), b"", (), unsigned)
    signature = key.sign(bare.signed_bytes(world.chain_id))
    signed = replace(bare, signature=signature)
    return gossip_messages.frame(
        FrameSubject.STATUS, gossip_messages.STATUS.pack(signed)
    )


def answers(me: SingleValidator, topic: FrameSubject) -> list[SendGossip]:
    found = [effect for effect in me.heard if isinstance(effect, SendGossip)]
    return [
        one
        for one in found
        if gossip_messages.FRAME.unpack(one.payload).subject == topic
    ]


@pytest.mark.parametrize("heights", [(1,), (1, 2)], ids=["stands", "to and fro"])
def test_last_block_goes_ever_more_rarely_and_to_who_lacks_it_alone(
    heights: tuple[int, ...],
) -> None:
    counts = []
    for who in (0, 1, 2):
        world, me = after_one_block(who)
        tip = me.state.tip.parent()
        me.heard.clear()
        for number in range(2 * SECONDS):
            height = heights[number % len(heights)]
            on = tip if height == 2 else None
            receive(me, said(world, number + 1, height, on), 2.0 + number / 2)
        sent = answers(me, FrameSubject.DECISION)
        assert {one.to for one in sent} <= {world.validators[PEER].public}
        counts.append(len(sent))
    # The pauses of 2, 4, 8, 16 and 32 s are longer than the minute together.
    assert 1 <= sum(counts) <= 3 * 6
    assert max(counts) <= 6


def test_what_followed_the_last_block_goes_to_its_peer_alone() -> None:
    world, me = after_one_block(0)
    receive(
        me,
        gossip_messages.wrap_vote(
            replace(vote(world, 1, VoteType.PREVOTE, None), height=2)
        ),
    )
    me.heard.clear()
    for number in range(3):
        receive(me, said(world, number + 1, 1), 2.0 + number)
    answered = [
        one
        for one in me.heard
        if isinstance(one, SendGossip)
        and gossip_messages.FRAME.unpack(one.payload).subject
        in (FrameSubject.DECISION, FrameSubject.VOTE)
    ]
    assert answered
    assert {one.to for one in answered} == {world.validators[PEER].public}


def test_certificates_of_many_claims_are_bounded_together() -> None:
    world, me = after_one_block()
    for number in range(2 * SECONDS):
        forked = number.to_bytes(32)
        receive(me, said(world, number + 1, 2, forked), 2.0 + number / 2)
    sent = answers(me, FrameSubject.CERTIFICATE)
    assert {one.to for one in sent} == {world.validators[PEER].public}
    assert 4 <= len(sent) <= 6


def test_counter_that_goes_up_and_down_is_shown_rarely_and_to_its_sender() -> None:
    world, me = after_one_block()
    tip = me.state.tip.parent()
    for number in range(10 * SECONDS):
        now_s = 2.0 + number / 10
        receive(me, said(world, 2 * number + 2, 2, tip), now_s)
        receive(me, said(world, 2 * number + 1, 2, tip), now_s)
    theirs = [
        one
        for one in answers(me, FrameSubject.STATUS)
        if gossip_messages.STATUS.unpack(
            gossip_messages.FRAME.unpack(one.payload).content
        ).validator
        == world.validators[PEER].public
    ]
    assert {one.to for one in theirs} == {world.validators[PEER].public}
    assert 4 <= len(theirs) <= 6


def _step(me: SingleValidator, now_s: float) -> ChainStep:
    return ChainStep(me.settings, me.state, ClockReading(now_s, int(1000 * now_s)))


def test_pause_doubles_up_to_64_intervals_and_ends_with_a_new_height() -> None:
    world, me = after_one_block()
    peer = world.validators[PEER].public
    times = []
    for now_s in range(400):
        step = _step(me, float(now_s))
        if repeat_backoff.may_repeat(step, peer, FrameSubject.DECISION, 7):
            times.append(now_s)
        me.state = step.state
    assert times == [0, 2, 6, 14, 30, 62, 126, 190, 254, 318, 382]
    step = _step(me, 400.0)
    assert not repeat_backoff.may_repeat(step, peer, FrameSubject.DECISION, 6)
    assert repeat_backoff.may_repeat(step, peer, FrameSubject.DECISION, 8)
    assert repeat_backoff.may_repeat(
        step, world.validators[0].public, FrameSubject.DECISION, 7
    )


def test_who_was_quiet_for_long_is_answered_as_at_first_and_nothing_piles_up() -> None:
    world, me = after_one_block()
    first, other = (world.validators[who].public for who in (PEER, 0))
    for now_s in (0.0, 2.0, 6.0):
        step = _step(me, now_s)
        assert repeat_backoff.may_repeat(step, first, FrameSubject.CERTIFICATE)
        me.state = step.state
    step = _step(me, 200.0)
    assert repeat_backoff.may_repeat(step, other, FrameSubject.CERTIFICATE)
    assert list(step.state.repeats) == [(other, FrameSubject.CERTIFICATE)]
    assert repeat_backoff.may_repeat(step, first, FrameSubject.CERTIFICATE)
    assert step.state.repeats[first, FrameSubject.CERTIFICATE].times == 1
