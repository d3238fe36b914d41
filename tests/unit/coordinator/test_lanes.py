"""Which lane a coordinator's messages leave by."""

from dataclasses import replace

import pytest

from broker.events import Message
from coordinator.effects import Give, Publish, PublishChunks, Tell
from coordinator.gossip import Subject
from coordinator.ledger import wire
from coordinator.ledger.node import Gossip
from coordinator.rim.lanes import Deferred, Lane
from coordinator.rim.outgoing import Outgoing
from coordinator.rim.publishing import Publisher, Said
from coordinator.rim.tally import Tally
from protocol.ids import DeviceId, H
from tests.unit.coordinator.council import KEYS, TOPICS, Council, name, voters

PEER = KEYS[1].identity
BOARD = voters(1)[0].device


class Recording(Outgoing):
    """Notes lane and topic of what is queued."""

    def __init__(self) -> None:
        super().__init__(lambda message: 0)
        self.queued: list[tuple[Lane, str]] = []

    def add(self, item: Message | Deferred, lane: Lane) -> None:
        self.queued.append((lane, item.topic))
        super().add(item, lane)


def ledger(topic: wire.Topic, size: int = 10) -> Gossip:
    return Gossip(wire.MESSAGE.pack(wire.Message(topic, bytes(size))))


@pytest.fixture
def said(council: Council) -> tuple[Publisher, Recording]:
    member, outgoing = council.members[0], Recording()
    with member.store.transaction():
        member.store.put_blob(b"bundle")
    return Publisher(member.settings, member.store, outgoing, Tally(0)), outgoing


@pytest.mark.parametrize(
    ("effect", "lane", "topic"),
    [
        *[
            (ledger(topic), Lane.CONSENSUS, TOPICS.gossip(name(0)))
            for topic in wire.Topic
            if topic is not wire.Topic.TRANSACTION
        ],
        (ledger(wire.Topic.PROPOSAL, 1 << 20), Lane.CONSENSUS, TOPICS.gossip(name(0))),
        (
            replace(ledger(wire.Topic.DECISION, 1 << 20), to=KEYS[1].public),
            Lane.CONSENSUS,
            TOPICS.private(name(0), name(1)),
        ),
        (ledger(wire.Topic.TRANSACTION), Lane.CONTROL, TOPICS.gossip(name(0))),
        (
            Tell(PEER, Subject.WANT, b"x"),
            Lane.CONTROL,
            TOPICS.private(name(0), name(1)),
        ),
        (
            Give(PEER, Subject.WHOLE, H(b"bundle")),
            Lane.BULK,
            TOPICS.private(name(0), name(1)),
        ),
        (Publish(TOPICS.down("a" * 26), b"x"), Lane.CONTROL, TOPICS.down("a" * 26)),
        (
            PublishChunks(DeviceId(bytes(16)), H(b"bundle"), (0,)),
            Lane.BULK,
            TOPICS.model("a" * 26),
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_effect_leaves_by_its_lane(
    said: tuple[Publisher, Recording], effect: Said, lane: Lane, topic: str
) -> None:
    publisher, outgoing = said
    publisher.say(effect)
    assert outgoing.queued
    assert {each for each, _ in outgoing.queued} == {lane}
    assert {each for _, each in outgoing.queued} == {topic}
