"""Messages as events of the core, and what is not looked at."""

import pytest

from starling.broker.link_events import AckToken, Delivered, MessageArrived
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.loop.messaging.inbound_events import REST_S, InboundEvents
from starling.coordinator.step.effects import RecordAcceptance, RecordOverLimit
from starling.coordinator.step.events import (
    BoardMessageArrived,
    BoardStateArrived,
    ChunkArrived,
    PeerFrameArrived,
)
from starling.protocol.ids import device_name
from tests.unit.coordinator.fixtures.council_genesis import KEYS, TOPICS
from tests.unit.coordinator.fixtures.fleet_board import voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators

BOARD = voters(1)[0].device
NAME = device_name(BOARD)
PEER = KEYS[1].identity


def message(topic: str) -> MessageArrived:
    return MessageArrived(topic, b"payload", AckToken(1, 1))


@pytest.fixture
def tally() -> CoordinatorCounters:
    return CoordinatorCounters(0, lambda: 0.0)


@pytest.fixture
def incoming(council: FourCoordinators, tally: CoordinatorCounters) -> InboundEvents:
    return InboundEvents(council.members[0].settings, tally, lambda: 0.0)


def test_topic_says_what_a_message_is(incoming: InboundEvents) -> None:
    found = [
        incoming.event(message(topic))
        for topic in (
            TOPICS.up(NAME),
            TOPICS.say(NAME),
            TOPICS.device_state(NAME),
            TOPICS.gossip(device_name(PEER)),
            TOPICS.gossip(device_name(KEYS[0].identity)),
        )
    ]
    assert found == [
        ChunkArrived(BOARD, b"payload"),
        BoardMessageArrived(BOARD, b"payload"),
        BoardStateArrived(BOARD, b"payload"),
        PeerFrameArrived(PEER, b"payload"),
        None,
    ]


def test_foreign_topic_is_refused_and_counted(
    incoming: InboundEvents, tally: CoordinatorCounters
) -> None:
    assert incoming.event(message("somewhere/else")) is None
    assert tally.refused == {"MALFORMED": 1}


def test_check_of_a_board_is_no_message_and_raises_no_counter(
    incoming: InboundEvents, tally: CoordinatorCounters
) -> None:
    asked = MessageArrived(TOPICS.say(NAME), b"", AckToken(1, 1))

    assert incoming.event(asked) is None
    assert (tally.refused, tally.ignored) == ({}, {})


def test_flood_is_is_ignored_unread_and_wakes_nobody(
    incoming: InboundEvents, tally: CoordinatorCounters
) -> None:
    first = message(TOPICS.say(NAME))
    incoming.caused(first, [RecordAcceptance(BOARD)])
    assert incoming.event(first) is not None
    incoming.caused(first, [RecordOverLimit(BOARD)])

    assert incoming.event(first) is None
    assert tally.ignored == {NAME: 1}
    assert incoming.may_wait(first)
    # What else the board says is looked at, and so is what others say.
    for topic in (TOPICS.up(NAME), TOPICS.say(device_name(PEER))):
        assert incoming.event(message(topic)) is not None
        assert not incoming.may_wait(message(topic))
    assert not incoming.may_wait(Delivered(1, 0))


def test_link_rests_after_a_turn_of_nothing_but_muted_messages(
    incoming: InboundEvents,
) -> None:
    flood, vote = message(TOPICS.up(NAME)), message(TOPICS.gossip(device_name(PEER)))
    incoming.caused(flood, [RecordOverLimit(BOARD)])

    def rest_after(*turn: MessageArrived | Delivered) -> float:
        for each in turn:
            incoming.may_wait(each)
        return incoming.rest_s()

    assert rest_after(flood, flood, Delivered(1, 0)) == REST_S
    assert rest_after() == 0.0
    assert rest_after(flood, vote) == 0.0
    assert rest_after(vote) == 0.0
    assert rest_after(flood) == REST_S
