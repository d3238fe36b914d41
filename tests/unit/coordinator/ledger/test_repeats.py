"""What answers one peer goes to it alone, and ever more rarely."""

from dataclasses import replace

import pytest

from coordinator.ledger import repeats, wire
from coordinator.ledger.node import Gossip
from coordinator.ledger.rounds import Moment
from coordinator.ledger.turn import Turn
from coordinator.ledger.wire import MESSAGE, Message, Status, Topic
from protocol.chain import BLOCK, VoteType
from protocol.ids import SIGNATURE_BYTES, BlockHash
from tests.unit.coordinator.ledger.test_exchange import certificate, hear, start, vote
from tests.unit.coordinator.ledger.validator import Running
from tests.unit.coordinator.ledger.world import World

PEER = 3
SECONDS = 60


def after_one_block(who: int = 2) -> tuple[World, Running]:
    """A validator that decided height 1 and holds a vote of height 2."""
    world, _, proposal = start()
    me = Running(world.genesis, world.validators[who])
    whole = certificate(world, VoteType.PRECOMMIT, proposal.block_id)
    hear(me, wire.wrap_decision(BLOCK.unpack(proposal.block), whole))
    assert me.state.height == 1
    return world, me


def said(world: World, counter: int, height: int, tip: bytes | None = None) -> bytes:
    key = world.validators[PEER]
    on, unsigned = BlockHash(tip or world.chain_id), bytes(SIGNATURE_BYTES)
    bare = Status(key.public, counter, height, on, 0, (), b"", (), unsigned)
    signature = key.sign(bare.signed_bytes(world.chain_id))
    signed = replace(bare, signature=signature)
    return MESSAGE.pack(Message(Topic.STATUS, wire.STATUS.pack(signed)))


def answers(me: Running, topic: Topic) -> list[Gossip]:
    found = [effect for effect in me.heard if isinstance(effect, Gossip)]
    return [one for one in found if MESSAGE.unpack(one.payload).topic == topic]


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
            hear(me, said(world, number + 1, height, on), 2.0 + number / 2)
        sent = answers(me, Topic.DECISION)
        assert {one.to for one in sent} <= {world.validators[PEER].public}
        counts.append(len(sent))
    # The pauses of 2, 4, 8, 16 and 32 s are longer than the minute together.
    assert 1 <= sum(counts) <= 3 * 6
    assert max(counts) <= 6


def test_what_followed_the_last_block_goes_to_its_peer_alone() -> None:
    world, me = after_one_block(0)
    hear(me, wire.wrap_vote(replace(vote(world, 1, VoteType.PREVOTE, None), height=2)))
    me.heard.clear()
    for number in range(3):
        hear(me, said(world, number + 1, 1), 2.0 + number)
    answered = [
        one
        for one in me.heard
        if isinstance(one, Gossip)
        and MESSAGE.unpack(one.payload).topic in (Topic.DECISION, Topic.VOTE)
    ]
    assert answered
    assert {one.to for one in answered} == {world.validators[PEER].public}


def test_certificates_of_many_claims_are_bounded_together() -> None:
    world, me = after_one_block()
    for number in range(2 * SECONDS):
        forked = number.to_bytes(32)
        hear(me, said(world, number + 1, 2, forked), 2.0 + number / 2)
    sent = answers(me, Topic.CERTIFICATE)
    assert {one.to for one in sent} == {world.validators[PEER].public}
    assert 4 <= len(sent) <= 6


def test_counter_that_goes_up_and_down_is_shown_rarely_and_to_its_sender() -> None:
    world, me = after_one_block()
    tip = me.state.tip.parent()
    for number in range(10 * SECONDS):
        now_s = 2.0 + number / 10
        hear(me, said(world, 2 * number + 2, 2, tip), now_s)
        hear(me, said(world, 2 * number + 1, 2, tip), now_s)
    theirs = [
        one
        for one in answers(me, Topic.STATUS)
        if wire.STATUS.unpack(MESSAGE.unpack(one.payload).content).validator
        == world.validators[PEER].public
    ]
    assert {one.to for one in theirs} == {world.validators[PEER].public}
    assert 4 <= len(theirs) <= 6


def _turn(me: Running, now_s: float) -> Turn:
    return Turn(me.settings, me.state, Moment(now_s, int(1000 * now_s)))


def test_pause_doubles_up_to_64_intervals_and_ends_with_a_new_height() -> None:
    world, me = after_one_block()
    peer = world.validators[PEER].public
    times = []
    for now_s in range(400):
        turn = _turn(me, float(now_s))
        if repeats.may(turn, peer, Topic.DECISION, 7):
            times.append(now_s)
        me.state = turn.state
    assert times == [0, 2, 6, 14, 30, 62, 126, 190, 254, 318, 382]
    turn = _turn(me, 400.0)
    assert not repeats.may(turn, peer, Topic.DECISION, 6)
    assert repeats.may(turn, peer, Topic.DECISION, 8)
    assert repeats.may(turn, world.validators[0].public, Topic.DECISION, 7)


def test_who_was_quiet_for_long_is_answered_as_at_first_and_nothing_piles_up() -> None:
    world, me = after_one_block()
    first, other = (world.validators[who].public for who in (PEER, 0))
    for now_s in (0.0, 2.0, 6.0):
        turn = _turn(me, now_s)
        assert repeats.may(turn, first, Topic.CERTIFICATE)
        me.state = turn.state
    turn = _turn(me, 200.0)
    assert repeats.may(turn, other, Topic.CERTIFICATE)
    assert list(turn.state.repeats) == [(other, Topic.CERTIFICATE)]
    assert repeats.may(turn, first, Topic.CERTIFICATE)
    assert turn.state.repeats[first, Topic.CERTIFICATE].times == 1
