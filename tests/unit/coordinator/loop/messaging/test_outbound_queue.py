"""Votes go before what is long, in any order; nothing swells, nothing is silent."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.broker.link_events import MqttMessage
from starling.coordinator.loop.messaging.outbound_queue import OutboundQueue
from starling.coordinator.loop.messaging.priority_lanes import (
    MESSAGE_OVERHEAD_BYTES,
    ROOMS,
    DeferredMessage,
)
from starling.coordinator.wire.lanes import PriorityLane
from starling.protocol.errors import LimitError, TransportError

LANES = list(PriorityLane)
CHUNK = bytes(64 << 10)
PACKET_MAX = 128 << 10


class FakeLink:
    """Takes `window` messages that are not answered yet."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.taken: list[bytes] = []
        self.topics: list[str] = []

    def publish(self, message: MqttMessage) -> int:
        if len(message.payload) > PACKET_MAX:
            raise LimitError("too long")
        if self.window == 0:
            raise TransportError("full")
        self.window -= 1
        self.taken.append(message.payload)
        self.topics.append(message.topic)
        return len(self.taken)


def message(payload: bytes, topic: str = "topic") -> MqttMessage:
    return MqttMessage(topic, payload)


@pytest.mark.parametrize("lane", LANES)
def test_outgoing_window_full_keeps_order_until_there_is_room(
    lane: PriorityLane,
) -> None:
    link = FakeLink(1)
    waiting = OutboundQueue(link.publish)
    for payload in (b"a", b"b", b"c"):
        waiting.add(message(payload), lane)

    waiting.pump()
    link.window = 2
    waiting.delivered(1)

    assert link.taken == [b"a", b"b", b"c"]


@pytest.mark.parametrize("lane", LANES)
def test_outgoing_connection_lost_sends_the_unanswered_again_first(
    lane: PriorityLane,
) -> None:
    link = FakeLink(2)
    waiting = OutboundQueue(link.publish)
    for payload in (b"a", b"b", b"c"):
        waiting.add(message(payload), lane)
    waiting.pump()

    waiting.disconnected()
    link.window = 3
    waiting.pump()

    assert link.taken == [b"a", b"b", b"a", b"b", b"c"]


def test_outgoing_message_over_the_limit_stops_nobody() -> None:
    link = FakeLink(9)
    waiting = OutboundQueue(link.publish)
    waiting.add(message(bytes(PACKET_MAX + 1)), PriorityLane.BULK)
    waiting.add(message(b"a"), PriorityLane.BULK)

    waiting.pump()

    assert link.taken == [b"a"]
    assert waiting.dropped == {"bulk": 1}


@given(
    st.lists(
        st.one_of(
            st.sampled_from(LANES), st.just("delivered"), st.just("disconnected")
        ),
        max_size=60,
    ),
    st.integers(1, 64),
)
def test_outgoing_no_bulk_is_handed_over_while_a_vote_waits(
    script: list[PriorityLane | str], window: int
) -> None:
    link = FakeLink(window)
    waiting = OutboundQueue(link.publish)
    queued: set[bytes] = set()
    answered = 0
    for number, act in enumerate(script):
        before = len(link.taken)
        if isinstance(act, PriorityLane):
            payload = b"%d vote" % number if act is PriorityLane.CONSENSUS else CHUNK
            waiting.add(message(payload, f"to/{number % 3}"), act)
            if act is PriorityLane.CONSENSUS:
                queued.add(payload)
            waiting.pump()
        elif act == "delivered" and answered < len(link.taken):
            answered += 1
            link.window += 1
            waiting.delivered(answered)
        elif act == "disconnected":
            # What was taken and not answered comes again.
            queued |= {each for each in link.taken[answered:] if each.endswith(b"vote")}
            answered = len(link.taken)
            link.window = window
            waiting.disconnected()
            waiting.pump()
        for payload in link.taken[before:]:
            if payload.endswith(b"vote"):
                queued.discard(payload)
            else:
                assert not queued, "bulk went before a vote"
        if queued:
            assert link.window == 0, "a vote waits though the link takes messages"


def test_outgoing_bulk_in_the_broker_s_hands_is_little() -> None:
    link = FakeLink(64)
    waiting = OutboundQueue(link.publish)
    for number in range(480):
        waiting.add(message(CHUNK, f"to/{number % 3}"), PriorityLane.BULK)
    waiting.pump()
    held = sum(len(payload) for payload in link.taken)

    waiting.add(message(b"vote"), PriorityLane.CONSENSUS)
    waiting.pump()

    assert 0 < held <= ROOMS[PriorityLane.BULK].in_flight_bytes_max
    assert link.taken[-1] == b"vote"


def test_outgoing_answers_to_boards_leave_places_in_the_window_to_votes() -> None:
    link = FakeLink(64)
    waiting = OutboundQueue(link.publish)
    for lane in (PriorityLane.CONTROL, PriorityLane.BULK):
        for number in range(500):
            waiting.add(message(b"receipt", f"d/{number}"), lane)
    waiting.pump()

    assert link.window >= 64 - 40


def test_outgoing_lost_connection_does_not_narrow_the_lanes() -> None:
    link = FakeLink(64)
    waiting = OutboundQueue(link.publish)
    for _ in range(20):
        waiting.add(message(CHUNK), PriorityLane.BULK)
    waiting.pump()
    once = len(link.taken)

    waiting.disconnected()
    waiting.pump()

    assert len(link.taken) == 2 * once


@pytest.mark.parametrize("lane", LANES)
def test_outgoing_full_lane_drops_its_oldest_and_counts_it(lane: PriorityLane) -> None:
    link = FakeLink(0)
    waiting = OutboundQueue(link.publish)
    fits = ROOMS[lane].waiting_bytes_max // (len(CHUNK) + MESSAGE_OVERHEAD_BYTES)
    for number in range(fits + 2):
        waiting.add(message(number.to_bytes(4) + CHUNK[4:]), lane)
    others = [each for each in LANES if each is not lane]
    for other in others:
        waiting.add(message(b"another lane's"), other)

    link.window = 1000
    waiting.pump()

    first = next(each for each in link.taken if len(each) == len(CHUNK))
    assert int.from_bytes(first[:4]) == 2
    assert waiting.dropped == {lane.name.lower(): 2}


def test_outgoing_flood_for_one_displaces_nobody_else_s() -> None:
    link = FakeLink(0)
    waiting = OutboundQueue(link.publish)
    for _ in range(4):
        waiting.add(message(CHUNK, "to/honest"), PriorityLane.BULK)
    for _ in range(2000):
        waiting.add(message(CHUNK, "to/greedy"), PriorityLane.BULK)

    link.window = 1000
    waiting.pump()
    for number in range(1, 9):
        waiting.delivered(number)

    assert link.topics[:8] == ["to/honest", "to/greedy"] * 4
    assert waiting.dropped["bulk"] >= 1400


def test_outgoing_deferred_is_made_when_its_turn_comes() -> None:
    link = FakeLink(0)
    waiting = OutboundQueue(link.publish)
    made: list[int] = []

    def chunk(number: int) -> MqttMessage | None:
        made.append(number)
        return None if number == 1 else message(CHUNK, "d/board")

    for number in range(10_000):
        made_late = DeferredMessage("d/board", partial(chunk, number))
        waiting.add(made_late, PriorityLane.BULK)
    link.window = 1000
    waiting.pump()

    assert not waiting.dropped
    assert len(link.taken) == 7
    assert made == list(range(9))
