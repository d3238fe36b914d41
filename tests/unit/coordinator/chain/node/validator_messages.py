"""One validator of four, and messages that the others sign for it."""

from dataclasses import replace

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.node.node import BlamePeer
from starling.protocol.chain.blocks import (
    VOTE,
    Certificate,
    Proposal,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.ids import BlockHash
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
