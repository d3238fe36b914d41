"""A validator that listens before it votes, and what others say to it."""

from collections.abc import Sequence
from dataclasses import replace

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.node.node import silence
from starling.protocol.chain.blocks import PROPOSAL, Proposal
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain

PROPOSER = 1
"""Of height 1, round 0."""
ME = 2
LISTEN_S = 5.0


def start(**options: object) -> tuple[SmallChain, SingleValidator, Proposal]:
    """A world, ourselves, and what the proposer of height 1 offers."""
    world = SmallChain(4)
    proposer = SingleValidator(world.genesis, world.validators[PROPOSER])
    proposer.submit(world.publish())
    proposer.tick(0.0)
    messages = [gossip_messages.FRAME.unpack(payload) for payload in proposer.sent]
    (offer,) = [
        m.content
        for m in messages
        if m.subject == gossip_messages.FrameSubject.PROPOSAL
    ]
    me = SingleValidator(world.genesis, world.validators[ME], **options)
    receive_statuses(world, me, 0.0)
    return world, me, PROPOSAL.unpack(offer)


def status(
    world: SmallChain, who: int, height: int, counter: int, answers: tuple[bytes, ...]
) -> bytes:
    """A validator says which height it decides."""
    key, unsigned = world.validators[who], bytes(SIGNATURE_BYTES)
    tip = BlockHash(world.chain_id)
    said = gossip_messages.ValidatorStatus(
        key.public, counter, height, tip, 0, (), b"", answers, unsigned
    )
    signed = replace(said, signature=key.sign(said.signed_bytes(world.chain_id)))
    return gossip_messages.frame(
        gossip_messages.FrameSubject.STATUS, gossip_messages.STATUS.pack(signed)
    )


def receive_statuses(
    world: SmallChain,
    me: SingleValidator,
    now_s: float,
    others: Sequence[int] = (0, 3),
    height: int = 1,
) -> None:
    for who in others:
        say(world, me, who, height, now_s)


def say(
    world: SmallChain, me: SingleValidator, who: int, height: int, now_s: float
) -> None:
    """A validator that has heard us since our start says which height it decides."""
    counter = int(1000 * now_s) + height
    answers = (me.settings.nonce,)
    receive(me, status(world, who, height, counter, answers), now_s)


def receive(me: SingleValidator, payload: bytes, now_s: float) -> None:
    me.receive(payload, now_s)


def reason(me: SingleValidator, now_s: float) -> str:
    return silence(me.settings, me.state, now_s)


def without_its_chain() -> tuple[SmallChain, SingleValidator, list[bytes], list[bytes]]:
    """A validator that decided two heights, with the last entry of its journal.

    Returns:
      With it the proposals of both heights, and their decisions.
    """
    world = SmallChain(4)
    running = [SingleValidator(world.genesis, key) for key in world.validators]
    heard: list[bytes] = []
    for height, envelope in enumerate((world.publish(), world.register(0)), start=1):
        now_s = 10.0 * height
        for one in running:
            one.submit(envelope, now_s=now_s)
            one.tick(now_s)
        while any(one.sent for one in running):
            for sender in running:
                payloads, sender.sent = sender.sent, []
                heard += payloads
                for other in running:
                    if other is not sender:
                        for payload in payloads:
                            receive(other, payload, now_s)
    me = running[ME]
    assert me.state.height == 2
    decisions = [
        gossip_messages.wrap_decision(effect.block, effect.certificate)
        for effect in me.blocks()
    ]
    late = SingleValidator(world.genesis, world.validators[ME])
    # As the journal is after it was rewritten: votes of durable heights are gone.
    late.journal = me.journal[-1:]
    late.restart(30.0)
    topics = [
        (gossip_messages.FRAME.unpack(payload).subject, payload) for payload in heard
    ]
    offers = [
        payload
        for topic, payload in topics
        if topic == gossip_messages.FrameSubject.PROPOSAL
    ]
    return world, late, offers, decisions
