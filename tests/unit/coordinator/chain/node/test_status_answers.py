"""A validator's status is answered with what it lacks, and by one at a time."""

from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject, ValidatorStatus
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


def status(
    world: SmallChain,
    who: int,
    height: int,
    signer: int | None = None,
    tip: BlockHash | None = None,
    counter: int = 1,
    **fields: object,
) -> bytes:
    public = world.validators[who].public
    tip = BlockHash(world.chain_id) if tip is None else tip
    bare = ValidatorStatus(
        public, counter, height, tip, 0, (), b"", (), bytes(SIGNATURE_BYTES)
    )
    bare = replace(bare, **fields)  # type: ignore[arg-type]  # a test's fields
    key = world.validators[who if signer is None else signer]
    signed = replace(bare, signature=key.sign(bare.signed_bytes(world.chain_id)))
    return gossip_messages.frame(
        FrameSubject.STATUS, gossip_messages.STATUS.pack(signed)
    )


def topics(me: SingleValidator) -> list[int]:
    return [gossip_messages.FRAME.unpack(payload).subject for payload in me.sent]


def test_status_of_the_same_height_gets_all_that_is_lacking_for_long() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    receive(
        me,
        gossip_messages.wrap_vote(vote(world, 0, VoteType.PREVOTE, proposal.block_id)),
    )
    me.sent.clear()
    for number in range(4):
        receive(me, status(world, 3, 1, counter=number), 2.0 + number)
    # Three of us take turns, from the second status on.
    assert topics(me).count(FrameSubject.PROPOSAL) == 1
    assert topics(me).count(FrameSubject.VOTE) == 2


def test_status_of_a_later_round_gets_what_it_lacks_of_earlier_ones() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    receive(
        me,
        gossip_messages.wrap_vote(vote(world, 0, VoteType.PREVOTE, proposal.block_id)),
    )
    me.sent.clear()
    for number in range(4):
        receive(me, status(world, 3, 1, counter=number, round=2), 2.0 + number)
    assert topics(me).count(FrameSubject.PROPOSAL) == 1
    assert topics(me).count(FrameSubject.VOTE) == 2


def test_status_that_lacks_what_is_on_its_way_gets_nothing() -> None:
    world, me, proposal = start()
    receive(me, status(world, 3, 1), 1.0)
    receive(me, gossip_messages.wrap_proposal(proposal), 1.5)
    me.sent.clear()
    receive(me, status(world, 3, 1, counter=2), 2.0)
    assert FrameSubject.PROPOSAL not in topics(me)
    assert FrameSubject.VOTE not in topics(me)


@pytest.mark.parametrize(
    ("behind", "expected"), [(False, [1, 2, 3]), (True, [0, 0, 1, 2, 2, 3])]
)
def test_status_is_answered_by_one_after_the_other(
    behind: bool, expected: list[int]
) -> None:
    world, _, proposal = start()
    theirs = gossip_messages.wrap_vote(vote(world, 3, VoteType.PREVOTE, None))
    whole = certificate(world, VoteType.PRECOMMIT, proposal.block_id)
    decided = gossip_messages.wrap_decision(BLOCK.unpack(proposal.block), whole)
    known = decided if behind else theirs
    answered = []
    for who in (0, 1, 2):
        me = SingleValidator(world.genesis, world.validators[who])
        receive(me, known)
        for number in range(4):
            me.sent.clear()
            receive(me, status(world, 3, 1, counter=number), 2.0 + number)
            answered += [number] * me.sent.count(known)
    assert sorted(answered) == expected


def test_status_is_heard_once_per_half_interval() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    me.sent.clear()
    for number in range(8):
        receive(me, status(world, 3, 1, counter=number), 2.0)
    assert FrameSubject.PROPOSAL not in topics(me)


def test_forged_status_is_refused() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    me.sent.clear()
    assert len(receive(me, status(world, 3, 1, signer=0))) == 1
    assert me.sent == []


def test_status_from_one_behind_gets_the_stored_block() -> None:
    world, me, proposal = start()
    whole = certificate(world, VoteType.PRECOMMIT, proposal.block_id)
    receive(me, gossip_messages.wrap_decision(BLOCK.unpack(proposal.block), whole))
    me.restart(5.0)
    receive(me, status(world, 3, 1), 6.0)
    topics = [gossip_messages.FRAME.unpack(payload).subject for payload in me.sent]
    assert FrameSubject.DECISION in topics
