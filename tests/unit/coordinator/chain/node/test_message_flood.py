"""Whatever others send ends in a counter: nothing raises, and memory is bounded."""

import pickle
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.consensus.vote_set import CONFLICTS_MAX
from starling.coordinator.chain.gossip_messages import (
    DECISION,
    DecidedBlock,
    FrameSubject,
    RoundHoldings,
    ValidatorStatus,
)
from starling.coordinator.chain.mempool import SHARE_PARTS
from starling.coordinator.chain.node.node import (
    BlamePeer,
    SendGossip,
    silence,
)
from starling.protocol.chain.blocks import (
    BLOCK,
    CERTIFICATE,
    PROPOSAL,
    ROUND_MAX,
    VOTE,
    Certificate,
    Proposal,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.errors import Reason
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash, H
from starling.protocol.schema.msgpack_codec import encode
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from tests.unit.coordinator.fixtures.single_validator import (
    SingleValidator,
    first_offer,
)
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_genesis import STRANGER

PROPOSER, ME, LIAR = 1, 2, 3
STATE_BYTES_MAX = 512 * 1024
"""That the consensus state of four may take under a flood of votes."""


def start() -> tuple[SmallChain, SingleValidator, Proposal]:
    """A world, ourselves, and what the proposer of height 1 offers."""
    world = SmallChain(4)
    offer = first_offer(world.genesis, world.validators[PROPOSER], world.publish())
    return world, SingleValidator(world.genesis, world.validators[ME]), offer


def receive(me: SingleValidator, payload: bytes, now_s: float = 1.0) -> None:
    me.receive(payload, now_s, b"liar")


def vote(
    world: SmallChain,
    kind: VoteType,
    height: int,
    number: int,
    block_id: BlockHash | None,
) -> bytes:
    signed = vote_bytes(world.chain_id, kind, height, number, block_id, 0)
    signature = world.validators[LIAR].sign(signed)
    return gossip_messages.wrap_vote(
        Vote(kind, height, number, block_id, 0, LIAR, signature)
    )


def state_bytes(me: SingleValidator) -> int:
    return len(pickle.dumps(me.state.consensus))


def test_votes_of_far_rounds_keep_the_highest_only() -> None:
    world, me, _ = start()
    draw = random.Random(0)
    numbers = [draw.randrange(2, ROUND_MAX) for _ in range(300)]
    for number in [*numbers, ROUND_MAX]:
        for kind in VoteType:
            receive(me, vote(world, kind, 1, number, None))
    kept = {number for number, _ in me.state.consensus.vote_set.votes}
    assert kept == {ROUND_MAX}
    assert me.state.consensus.round == 0
    assert me.votes() == []


def test_votes_of_other_heights_leave_nothing() -> None:
    world, me, _ = start()
    before = me.state.consensus
    for height in (2, 3, 1 << 40, (1 << 63) - 1):
        receive(me, vote(world, VoteType.PREVOTE, height, 0, None))
    assert me.state.consensus == before


def test_contradicting_votes_are_kept_in_bounded_number() -> None:
    world, me, _ = start()
    for number in range(200):
        receive(
            me,
            vote(world, VoteType.PREVOTE, 1, number % 2, BlockHash(H(b"%d" % number))),
        )
    vote_set = me.state.consensus.vote_set
    assert len(vote_set.conflicts) <= CONFLICTS_MAX
    assert sum(len(cast) for cast in vote_set.votes.values()) <= 2
    assert state_bytes(me) < STATE_BYTES_MAX
    assert me.state.mempool.size == 1, "one accusation"


def test_proposals_of_far_rounds_and_other_heights_leave_nothing() -> None:
    _, me, proposal = start()
    for number, height in ((2, 1), (ROUND_MAX, 1), (0, 2), (1, 1 << 62)):
        far = replace(proposal, round=number, height=height)
        receive(me, gossip_messages.wrap_proposal(far))
    assert me.state.consensus.vote_set.proposals == {}


@pytest.mark.parametrize("junk", [b"", b"\xc0", bytes(1 << 20), b"\x98" * 64])
def test_signed_proposal_of_junk_is_not_heard(junk: bytes) -> None:
    world, me, proposal = start()
    bare = replace(proposal, block=junk)
    key = world.validators[PROPOSER]
    signed = replace(bare, signature=key.sign(bare.signed_bytes(world.chain_id)))
    for _ in range(3):
        receive(me, gossip_messages.wrap_proposal(signed))
    assert me.votes() == []
    assert len(me.of(BlamePeer)) == 3


def test_block_offered_again_is_in_memory_once() -> None:
    world, _, proposal = start()
    kind, block_id = VoteType.PREVOTE, proposal.block_id
    signed = vote_bytes(world.chain_id, kind, 1, 0, block_id, 0)
    voters = (0, 1, 3)
    signatures = tuple(world.validators[who].sign(signed) for who in voters)
    proof = Certificate(1, 0, block_id, 0b1011, signatures, (0, 0, 0))
    again = replace(
        proposal, round=1, valid_round=1, proposer=2, parent=None, proof_of_lock=proof
    )
    other = SingleValidator(world.genesis, world.validators[0])
    receive(other, gossip_messages.wrap_proposal(proposal))
    key = world.validators[2]
    signed_again = replace(
        again, signature=key.sign(again.signed_bytes(world.chain_id))
    )
    receive(other, gossip_messages.wrap_proposal(signed_again))
    held = other.state.consensus.vote_set.proposals
    assert held[1].proposal.block is held[0].proposal.block


def test_flood_of_transactions_fills_a_share_and_leaves_room_for_others() -> None:
    world = SmallChain(4)
    me = SingleValidator(world.genesis, world.validators[ME], waiting_max=80)
    for number in range(40):
        junk = world.sign(STRANGER, MessageKind.UPDATE, b"%d" % number)
        packed = gossip_messages.frame(FrameSubject.TRANSACTION, ENVELOPE.pack(junk))
        receive(me, packed)
    assert me.state.mempool.size == 80 // SHARE_PARTS
    reasons = {e.reason for e in me.heard if isinstance(e, BlamePeer)}
    assert reasons == {Reason.BUSY}
    me.submit(world.register(0), now_s=2.0)
    assert me.state.mempool.size == 80 // SHARE_PARTS + 1


def test_statuses_are_answered_at_a_bounded_pace() -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    key = world.validators[LIAR]
    tip, unsigned = BlockHash(world.chain_id), bytes(SIGNATURE_BYTES)
    before = len(me.of(SendGossip))
    for number in range(500):
        nothing = ValidatorStatus(key.public, number, 1, tip, 0, (), b"", (), unsigned)
        signature = key.sign(nothing.signed_bytes(world.chain_id))
        status = gossip_messages.STATUS.pack(replace(nothing, signature=signature))
        receive(me, gossip_messages.frame(FrameSubject.STATUS, status), 1.1)
    assert len(me.of(SendGossip)) - before <= 3


@given(
    st.integers(1, (1 << 63) - 1),
    st.integers(0, ROUND_MAX),
    st.lists(
        st.builds(
            RoundHoldings,
            st.integers(0, ROUND_MAX),
            st.integers(0, 1),
            st.integers(0, (1 << 32) - 1),
            st.integers(0, (1 << 32) - 1),
            st.none() | st.binary(min_size=32, max_size=32),
        ),
        max_size=4,
    ),
    st.integers(0, (1 << 63) - 1),
    st.lists(st.binary(min_size=8, max_size=8), max_size=4),
)
@settings(max_examples=60)
def test_any_signed_status_is_borne(
    height: int,
    number: int,
    held: list[RoundHoldings],
    counter: int,
    answers: list[bytes],
) -> None:
    world, me, proposal = start()
    receive(me, gossip_messages.wrap_proposal(proposal))
    key = world.validators[LIAR]
    bare = ValidatorStatus(
        key.public,
        counter,
        height,
        BlockHash(H(b"any")),
        number,
        tuple(held),
        bytes(len(answers) % 2 * gossip_messages.NONCE_BYTES),
        tuple(answers),
        bytes(SIGNATURE_BYTES),
    )
    signature = key.sign(bare.signed_bytes(world.chain_id))
    status = gossip_messages.STATUS.pack(replace(bare, signature=signature))
    receive(me, gossip_messages.frame(FrameSubject.STATUS, status))
    assert me.of(BlamePeer) == []
    assert len(me.votes()) == 1


def _spoken(world: SmallChain, proposal: Proposal) -> list[bytes]:
    """One good message of each topic."""
    block = BLOCK.unpack(proposal.block)
    commit = Certificate(
        1, 0, proposal.block_id, 0b1011, (bytes(SIGNATURE_BYTES),) * 3, (0, 0, 0)
    )
    fork = gossip_messages.ForkProof(
        commit, replace(commit, block_id=BlockHash(H(b"x"))), None, ()
    )
    contents = {
        FrameSubject.PROPOSAL: PROPOSAL.pack(proposal),
        FrameSubject.VOTE: VOTE.pack(
            Vote(1, 1, 0, None, 0, LIAR, bytes(SIGNATURE_BYTES))
        ),
        FrameSubject.DECISION: DECISION.pack(DecidedBlock(block, commit)),
        FrameSubject.TRANSACTION: ENVELOPE.pack(world.register(0)),
        FrameSubject.FORK: gossip_messages.FORK.pack(fork),
        FrameSubject.CERTIFICATE: CERTIFICATE.pack(commit),
        FrameSubject.POLKA: CERTIFICATE.pack(commit),
    }
    return [gossip_messages.frame(topic, one) for topic, one in contents.items()]


@given(st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_damaged_messages_of_every_topic_are_counted(draw: random.Random) -> None:
    world, me, proposal = start()
    for payload in _spoken(world, proposal):
        damaged = bytearray(payload)
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        receive(me, bytes(damaged))
    assert me.state.height == 0
    assert silence(me.settings, me.state, 1.0) == ""
    assert state_bytes(me) < STATE_BYTES_MAX


@given(st.integers(0, 255), st.binary(max_size=200))
def test_any_bytes_on_any_topic_are_counted(topic: int, content: bytes) -> None:
    world = SmallChain(4)
    me = SingleValidator(world.genesis, world.validators[ME])
    receive(me, encode([gossip_messages.WIRE_VERSION, topic, content]))
    receive(me, content)
    assert me.state.height == 0
    assert me.state.mempool.size == 0
    assert me.of(BlamePeer)
