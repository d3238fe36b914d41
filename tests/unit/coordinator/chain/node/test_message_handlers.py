"""Proposals, votes and decisions of others, honest and not."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.consensus.round_state import RoundStep
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.node.node import SendGossip, StateDiverged, StoreBlock
from starling.protocol.chain.blocks import BLOCK, Proposal, VoteType
from starling.protocol.errors import Reason
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash, H
from starling.protocol.wire.envelope import ENVELOPE
from tests.unit.coordinator.chain.node.validator_messages import (
    ME,
    certificate,
    own_votes,
    receive,
    sign,
    start,
    vote,
)
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain


def test_honest_proposal_gets_our_prevote() -> None:
    _, me, proposal = start()
    assert receive(me, gossip_messages.wrap_proposal(proposal)) == []
    assert own_votes(me) == [(VoteType.PREVOTE, proposal.block_id)]


def test_vote_is_written_down_before_it_is_gossiped() -> None:
    _, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    kinds = [type(effect).__name__ for effect in me.heard]
    assert kinds.index("JournalVote") < kinds.index("SendGossip")


def _bad_state(world: SmallChain, proposal: Proposal) -> Proposal:
    block = BLOCK.unpack(proposal.block)
    header = replace(block.header, state_root=H(b"other"))
    other = replace(block, header=header)
    return replace(proposal, block=BLOCK.pack(other), block_id=header.block_id())


def _bad_signature_inside(world: SmallChain, proposal: Proposal) -> Proposal:
    block = BLOCK.unpack(proposal.block)
    envelope = ENVELOPE.unpack(block.transactions[0])
    forged = ENVELOPE.pack(replace(envelope, signature=bytes(SIGNATURE_BYTES)))
    other = replace(block, transactions=(forged,))
    header = replace(block.header, tx_root=other.tx_root())
    other = replace(other, header=header)
    return replace(proposal, block=BLOCK.pack(other), block_id=header.block_id())


@pytest.mark.parametrize("spoil", [_bad_state, _bad_signature_inside])
def test_invalid_block_gets_a_nil_prevote_and_its_proposer_blame(
    spoil: object,
) -> None:
    world, me, proposal = start()
    bad = sign(world, spoil(world, proposal))  # type: ignore[operator]  # one of two
    (blame,) = receive(me, gossip_messages.wrap_proposal(bad))
    assert blame.reason is Reason.INVALID_BLOCK
    # What decides nothing begins no height.
    assert own_votes(me) == []
    me.tick(1.0 + world.genesis.heartbeat_s)
    assert own_votes(me) == [(VoteType.PREVOTE, None)]


def _swapped_block(proposal: Proposal) -> bytes:
    block = BLOCK.unpack(proposal.block)
    header = replace(block.header, time_ms=block.header.time_ms + 1)
    return BLOCK.pack(replace(block, header=header))


def _swapped_transactions(proposal: Proposal) -> bytes:
    return BLOCK.pack(replace(BLOCK.unpack(proposal.block), transactions=()))


@pytest.mark.parametrize("swap", [_swapped_block, _swapped_transactions])
def test_bytes_swapped_by_who_passed_them_on_do_not_hide_the_proposal(
    swap: Callable[[Proposal], bytes],
) -> None:
    _, me, proposal = start()
    (blame,) = receive(
        me, gossip_messages.wrap_proposal(replace(proposal, block=swap(proposal)))
    )
    assert blame.reason is Reason.INVALID_BLOCK
    assert own_votes(me) == []
    receive(me, gossip_messages.wrap_proposal(proposal))
    assert own_votes(me) == [(VoteType.PREVOTE, proposal.block_id)]


def test_proposal_out_of_turn_forged_or_without_proof_is_ignored() -> None:
    world, _, proposal = start()
    me = SingleValidator(world.genesis, world.validators[0])
    out_of_turn = sign(world, replace(proposal, proposer=3), 3)
    forged = sign(world, proposal, 3)
    valid_later = replace(proposal, round=1, valid_round=1, proposer=2)
    without_proof = sign(world, valid_later, 2)
    for number, bad in enumerate((out_of_turn, forged, without_proof)):
        assert len(receive(me, gossip_messages.wrap_proposal(bad))) == number + 1
    assert me.state.consensus.vote_set.proposals == {}
    assert own_votes(me) == []


def test_proof_of_lock_for_another_block_is_refused() -> None:
    world, _, proposal = start()
    me = SingleValidator(world.genesis, world.validators[0])
    proof = certificate(world, VoteType.PREVOTE, BlockHash(H(b"other")))
    again = replace(proposal, round=1, valid_round=1, proposer=2, proof_of_lock=proof)
    (blame,) = receive(me, gossip_messages.wrap_proposal(sign(world, again, 2)))
    assert blame.reason is Reason.INVALID_PROOF


def test_votes_of_a_quorum_decide() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    for kind in (VoteType.PREVOTE, VoteType.PRECOMMIT):
        for who in (0, 1):
            receive(
                me, gossip_messages.wrap_vote(vote(world, who, kind, proposal.block_id))
            )
    (stored,) = me.blocks()
    assert stored.certificate.block_id == proposal.block_id
    assert len(stored.certificate.signatures) == 3


def test_double_vote_is_named_and_counts_once() -> None:
    world, me, proposal = start()
    receive(
        me,
        gossip_messages.wrap_vote(vote(world, 0, VoteType.PREVOTE, proposal.block_id)),
    )
    (blame,) = receive(
        me, gossip_messages.wrap_vote(vote(world, 0, VoteType.PREVOTE, None))
    )
    assert blame.reason is Reason.EQUIVOCATION
    assert blame.signer == world.validators[0].public
    assert len(me.state.consensus.vote_set.cast(0, VoteType.PREVOTE)) == 1


def test_vote_with_our_own_key_does_not_count() -> None:
    world, me, proposal = start()
    ours = vote(world, ME, VoteType.PREVOTE, proposal.block_id)
    (blame,) = receive(me, gossip_messages.wrap_vote(ours))
    assert blame.reason is Reason.EQUIVOCATION
    assert me.state.consensus.vote_set.votes == {}


@pytest.mark.parametrize("who", [3, 31], ids=["other-key", "no-such-validator"])
def test_forged_vote_is_refused(who: int) -> None:
    world, me, proposal = start()
    forged = replace(vote(world, 0, VoteType.PREVOTE, proposal.block_id), voter=who)
    assert len(receive(me, gossip_messages.wrap_vote(forged))) == 1
    assert me.state.consensus.step is RoundStep.NEW_HEIGHT


def test_decision_is_believed_with_its_certificate_only() -> None:
    world, me, proposal = start()
    block = BLOCK.unpack(proposal.block)
    other = certificate(world, VoteType.PRECOMMIT, BlockHash(H(b"other")))
    prevotes = certificate(world, VoteType.PREVOTE, proposal.block_id)
    assert len(receive(me, gossip_messages.wrap_decision(block, other))) == 1
    assert len(receive(me, gossip_messages.wrap_decision(block, prevotes))) == 2
    assert me.state.height == 0
    whole = certificate(world, VoteType.PRECOMMIT, proposal.block_id)
    receive(me, gossip_messages.wrap_decision(block, whole))
    assert me.state.height == 1
    assert me.of(StoreBlock)


def test_decision_whose_bytes_were_swapped_does_not_say_that_we_differ() -> None:
    world, me, proposal = start()
    block = BLOCK.unpack(proposal.block)
    whole = certificate(world, VoteType.PRECOMMIT, proposal.block_id)
    empty = replace(block, transactions=())
    (blame,) = receive(me, gossip_messages.wrap_decision(empty, whole))
    assert blame.reason is Reason.INVALID_BLOCK
    assert me.of(StateDiverged) == []
    assert receive(me, gossip_messages.wrap_decision(block, whole)) == [blame]
    assert me.state.height == 1


def test_decision_for_a_block_that_we_hold_needs_its_certificate_too() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    block = BLOCK.unpack(proposal.block)
    whole = certificate(world, VoteType.PRECOMMIT, proposal.block_id)
    few = replace(
        whole, voters=0b11, signatures=whole.signatures[:2], extras=whole.extras[:2]
    )
    for bad in (certificate(world, VoteType.PREVOTE, proposal.block_id), few):
        assert receive(me, gossip_messages.wrap_decision(block, bad))
    assert me.state.height == 0


def test_decision_again_or_of_another_height_does_nothing() -> None:
    world, me, proposal = start()
    block = BLOCK.unpack(proposal.block)
    whole = certificate(world, VoteType.PRECOMMIT, proposal.block_id)
    for _ in range(2):
        assert receive(me, gossip_messages.wrap_decision(block, whole)) == []
    assert len(me.blocks()) == 1


def test_transaction_with_a_bad_signature_does_not_wait() -> None:
    world, me, _ = start()
    forged = replace(world.register(0), signature=bytes(SIGNATURE_BYTES))
    packed = gossip_messages.frame(FrameSubject.TRANSACTION, ENVELOPE.pack(forged))
    (blame,) = receive(me, packed)
    assert blame.reason is Reason.BAD_SIGNATURE
    assert me.state.mempool.size == 0
    assert not [
        e for e in me.heard if isinstance(e, SendGossip) and e.payload == packed
    ]


def test_messages_cut_at_every_byte_never_raise() -> None:
    world, me, proposal = start()
    entry = vote(world, 0, VoteType.PREVOTE, proposal.block_id)
    for whole in (
        gossip_messages.wrap_proposal(proposal),
        gossip_messages.wrap_vote(entry),
    ):
        for end in range(len(whole)):
            me.receive(whole[:end], 1.0)
    assert me.state.consensus.step is RoundStep.NEW_HEIGHT
