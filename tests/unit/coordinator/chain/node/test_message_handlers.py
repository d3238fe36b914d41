"""What a validator of four makes of others' messages, honest and not."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.consensus.round_state import RoundStep
from starling.coordinator.chain.gossip_messages import (
    FrameSubject,
    ValidatorStatus,
)
from starling.coordinator.chain.node.node import (
    BlamePeer,
    SendGossip,
    StateDiverged,
    StoreBlock,
)
from starling.protocol.chain.blocks import (
    BLOCK,
    VOTE,
    Certificate,
    Proposal,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.errors import Reason
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash, H
from starling.protocol.wire.envelope import ENVELOPE
from tests.unit.coordinator.fixtures.single_validator import (
    SingleValidator,
    first_offer,
)
from tests.unit.coordinator.fixtures.small_chain import SmallChain

PROPOSER = 1
"""Of height 1, round 0."""
ME = 2


def start() -> tuple[SmallChain, SingleValidator, Proposal]:
    """A world, ourselves, and what the proposer of height 1 offers."""
    world = SmallChain(4)
    offer = first_offer(world.genesis, world.validators[PROPOSER], world.publish())
    me = SingleValidator(world.genesis, world.validators[ME])
    return world, me, offer


def sign(world: SmallChain, proposal: Proposal, who: int = PROPOSER) -> Proposal:
    signature = world.validators[who].sign(proposal.signed_bytes(world.chain_id))
    return replace(proposal, signature=signature)


def vote(
    world: SmallChain,
    who: int,
    kind: VoteType,
    block_id: BlockHash | None,
    extra: int = 0,
) -> Vote:
    signed = vote_bytes(world.chain_id, kind, 1, 0, block_id, extra)
    signature = world.validators[who].sign(signed)
    return Vote(kind, 1, 0, block_id, extra, who, signature)


def certificate(world: SmallChain, kind: VoteType, block_id: BlockHash) -> Certificate:
    votes = [vote(world, who, kind, block_id) for who in (0, 1, 3)]
    signatures = tuple(entry.signature for entry in votes)
    return Certificate(1, 0, block_id, 0b1011, signatures, (0, 0, 0))


def receive(me: SingleValidator, payload: bytes, now_s: float = 1.0) -> list[BlamePeer]:
    me.receive(payload, now_s)
    return [effect for effect in me.heard if isinstance(effect, BlamePeer)]


def own_votes(me: SingleValidator) -> list[tuple[int, BlockHash | None]]:
    messages = [gossip_messages.FRAME.unpack(payload) for payload in me.sent]
    votes = [VOTE.unpack(m.content) for m in messages if m.subject == FrameSubject.VOTE]
    return [(entry.vote_type, entry.block_id) for entry in votes]


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
