"""Which lane a coordinator's messages leave by."""

from dataclasses import replace

import pytest

from starling.broker.link_events import MqttMessage
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.node.node import SendGossip
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.loop.messaging.outbound_queue import OutboundQueue
from starling.coordinator.loop.messaging.priority_lanes import (
    DeferredMessage,
)
from starling.coordinator.loop.messaging.publisher import OutboundEffect, Publisher
from starling.coordinator.loop.storage.blob_cache import BlobCache
from starling.coordinator.step.effects import (
    PublishChunks,
    SendAnswer,
    SendFrame,
    SendMessage,
)
from starling.coordinator.wire.lanes import PriorityLane
from starling.protocol.ids import DeviceId, H
from tests.unit.coordinator.fixtures.council_genesis import KEYS, TOPICS, name
from tests.unit.coordinator.fixtures.fleet_board import voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.single_validator import OF_CHAIN

PEER = KEYS[1].identity
BOARD = voters(1)[0].device


class Recording(OutboundQueue):
    """Notes lane and topic of what is queued."""

    def __init__(self) -> None:
        super().__init__(lambda message: 0)
        self.queued: list[tuple[PriorityLane, str]] = []

    def add(self, item: MqttMessage | DeferredMessage, lane: PriorityLane) -> None:
        self.queued.append((lane, item.topic))
        super().add(item, lane)


def ledger(topic: FrameSubject, size: int = 10) -> SendGossip:
    return SendGossip(gossip_messages.frame(topic, bytes(size)))


@pytest.fixture
def said(council: FourCoordinators) -> tuple[Publisher, Recording]:
    member, outgoing = council.members[0], Recording()
    with member.store.transaction():
        member.store.put_blob(b"bundle")
    blobs = BlobCache(member.store)
    tally = CoordinatorCounters(0, lambda: 0.0)
    publisher = Publisher(member.settings, member.ports, blobs, outgoing, tally)
    return publisher, outgoing


@pytest.mark.parametrize(
    ("effect", "lane", "topic"),
    [
        *[
            (ledger(topic), PriorityLane.CONSENSUS, TOPICS.gossip(name(0)))
            for topic in map(FrameSubject, OF_CHAIN)
            if topic is not FrameSubject.TRANSACTION
        ],
        (
            ledger(FrameSubject.PROPOSAL, 1 << 20),
            PriorityLane.CONSENSUS,
            TOPICS.gossip(name(0)),
        ),
        (
            replace(ledger(FrameSubject.DECISION, 1 << 20), to=KEYS[1].public),
            PriorityLane.CONSENSUS,
            TOPICS.private(name(0), name(1)),
        ),
        (
            ledger(FrameSubject.TRANSACTION),
            PriorityLane.CONTROL,
            TOPICS.gossip(name(0)),
        ),
        (
            SendFrame(PEER, FrameSubject.REQUEST, b"x"),
            PriorityLane.CONTROL,
            TOPICS.private(name(0), name(1)),
        ),
        (
            SendAnswer(PEER, FrameSubject.WHOLE, H(b"bundle")),
            PriorityLane.BULK,
            TOPICS.private(name(0), name(1)),
        ),
        (
            SendMessage(TOPICS.down("a" * 26), b"x"),
            PriorityLane.CONTROL,
            TOPICS.down("a" * 26),
        ),
        (
            PublishChunks(DeviceId(bytes(16)), H(b"bundle"), (0,)),
            PriorityLane.BULK,
            TOPICS.model("a" * 26),
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_effect_leaves_by_its_lane(
    said: tuple[Publisher, Recording],
    effect: OutboundEffect,
    lane: PriorityLane,
    topic: str,
) -> None:
    publisher, outgoing = said
    publisher.say(effect)
    assert outgoing.queued
    assert {each for each, _ in outgoing.queued} == {lane}
    assert {each for _, each in outgoing.queued} == {topic}
