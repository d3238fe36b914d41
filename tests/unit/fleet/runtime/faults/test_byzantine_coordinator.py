"""A coordinator's runtime does wrong exactly as ordered, and else nothing."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from starling.broker.link_events import (
    AckToken,
    Delivered,
    LinkEvent,
    LinkSettings,
    MessageArrived,
    MqttMessage,
)
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.runtime.environment import Bus
from starling.fleet.byzantine.vote_forger import VoteForger, vote_in
from starling.fleet.faults.fault_timeline import FaultOrders
from starling.fleet.runtime.faults.byzantine_coordinator import (
    FaultOrderFile,
    FaultyBus,
    write_fault_orders,
)
from starling.protocol.chain.blocks import Vote, VoteType
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import BlockHash, ChainId, H, device_name
from starling.protocol.wire.topics import Topics
from tests.unit.fleet.wait_until import until

KEY = SigningKey(bytes(32))
CHAIN = ChainId(H(b"chain"))
BLOCK = BlockHash(H(b"block"))
TOPICS = Topics("fleet")
OURS = TOPICS.gossip(device_name(H(b"us")[:16]))
THEIRS = device_name(H(b"them")[:16])
FORGER = VoteForger(KEY, CHAIN)


class RecordingBus:
    """A broker that takes everything."""

    def __init__(self) -> None:
        self.published: list[MqttMessage] = []
        self.acknowledged: list[AckToken] = []
        self.on_event: Callable[[LinkEvent], None] = lambda event: None

    def start(self) -> None:
        return

    def stop(self, timeout_s: float) -> None:
        return

    def publish(self, message: MqttMessage) -> int:
        self.published.append(message)
        return len(self.published)

    def acknowledge_many(self, tokens: Iterable[AckToken]) -> None:
        self.acknowledged.extend(tokens)


def vote_of(key: SigningKey, block_id: BlockHash | None) -> bytes:
    vote = Vote(VoteType.PREVOTE, 7, 0, block_id, 0, 0, bytes(64))
    signature = key.sign(vote.signed_bytes(CHAIN))
    signed = Vote(VoteType.PREVOTE, 7, 0, block_id, 0, 0, signature)
    return gossip_messages.wrap_vote(signed)


def faulty(standing: FaultOrders) -> tuple[FaultyBus, RecordingBus, list[LinkEvent]]:
    real, heard = RecordingBus(), list[LinkEvent]()

    def open_bus(settings: LinkSettings, on_event: Callable[[LinkEvent], None]) -> Bus:
        real.on_event = on_event
        return real

    settings = LinkSettings("127.0.0.1", 1, "us")
    orders = lambda: standing  # noqa: E731 - one word
    made = FaultyBus(
        settings, heard.append, orders, FORGER, TOPICS, {THEIRS: 2}, open_bus
    )
    made.start()
    return made, real, heard


def arrived(topic: str, payload: bytes = b"x") -> MessageArrived:
    return MessageArrived(topic, payload, AckToken(1, 9))


def test_bus_without_orders_passes_everything_on() -> None:
    bus, real, heard = faulty(FaultOrders())
    message = MqttMessage(OURS, vote_of(KEY, BLOCK))
    assert bus.publish(message) == 1
    event = arrived(TOPICS.gossip(THEIRS))
    real.on_event(event)
    assert (real.published, heard) == ([message], [event])


def test_bus_deaf_loses_gossip_of_the_other_side_and_acknowledges_it() -> None:
    _, real, heard = faulty(FaultOrders(deaf_to=(2,)))
    real.on_event(arrived(TOPICS.gossip(THEIRS)))
    assert (heard, real.acknowledged) == ([], [AckToken(1, 9)])


@pytest.mark.parametrize(
    "topic",
    [TOPICS.gossip(device_name(H(b"friend")[:16])), TOPICS.up(THEIRS)],
    ids=["same side", "board"],
)
def test_bus_deaf_still_hears_everybody_else(topic: str) -> None:
    _, real, heard = faulty(FaultOrders(deaf_to=(2,)))
    real.on_event(arrived(topic))
    assert heard == [arrived(topic)]


def test_bus_late_says_delivered_at_once_and_sends_later() -> None:
    bus, real, heard = faulty(FaultOrders(delay_s=0.05))
    message = MqttMessage(OURS, b"gossip")
    publish_id = bus.publish(message)
    assert real.published == []
    assert heard == [Delivered(publish_id, 0)]
    until(lambda: real.published == [message])
    bus.stop(0.0)


def test_bus_late_does_not_delay_boards() -> None:
    bus, real, _ = faulty(FaultOrders(delay_s=60.0))
    bus.publish(MqttMessage(TOPICS.down(THEIRS), b"lease"))
    assert len(real.published) == 1
    bus.stop(0.0)


@pytest.mark.parametrize("block_id", [BLOCK, None], ids=["block", "nil"])
def test_bus_equivocating_adds_a_valid_second_vote(block_id: BlockHash | None) -> None:
    bus, real, _ = faulty(FaultOrders(equivocates=True))
    bus.publish(MqttMessage(OURS, vote_of(KEY, block_id)))
    until(lambda: len(real.published) == 2)
    votes = [vote_in(message.payload) for message in real.published]
    assert {vote.block_id == block_id for vote in votes if vote} == {True, False}
    for vote in votes:
        assert vote is not None
        assert KEY.sign(vote.signed_bytes(CHAIN)) == vote.signature
    bus.stop(0.0)


def test_bus_equivocating_does_not_hear_its_own_second_vote() -> None:
    _, real, heard = faulty(FaultOrders(equivocates=True))
    own = arrived(TOPICS.gossip(THEIRS), vote_of(KEY, None))
    other = arrived(TOPICS.gossip(THEIRS), vote_of(SigningKey(b"o" * 32), None))
    real.on_event(own)
    real.on_event(other)
    assert heard == [other]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"nonsense",
        gossip_messages.frame(FrameSubject.REQUEST, b"x"),
        gossip_messages.frame(FrameSubject.VOTE, b"x"),
        vote_of(SigningKey(b"o" * 32), BLOCK),
    ],
    ids=["empty", "nonsense", "request", "torn", "other's"],
)
def test_forger_leaves_alone_what_is_no_own_vote(payload: bytes) -> None:
    assert FORGER.contradiction(payload) is None


def test_order_file_missing_orders_nothing_and_then_follows(tmp_path: Path) -> None:
    path = tmp_path / "orders.json"
    orders = FaultOrderFile(path)
    assert orders.now() == FaultOrders()
    wanted = FaultOrders((2,), 0.5, True, True, -3600.0)
    write_fault_orders(path, wanted)
    until(lambda: orders.now() == wanted)
