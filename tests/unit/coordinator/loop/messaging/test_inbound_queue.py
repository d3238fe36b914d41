"""What others wait for goes before uploads; acknowledgements keep their order."""

from starling.broker.link_events import AckToken, MessageArrived
from starling.coordinator.loop.messaging.inbound_queue import InboundQueue

UPLOAD, VOTE = "starling/1/meadow/d/board/up", "starling/1/meadow/g/peer/say"


def message(topic: str, packet: int) -> MessageArrived:
    return MessageArrived(topic, b"", AckToken(1, packet))


def filled(*topics: str) -> InboundQueue[str]:
    backlog: InboundQueue[str] = InboundQueue()
    for packet, topic in enumerate(topics, 1):
        backlog.add(message(topic, packet))
    return backlog


def test_backlog_gives_all_but_uploads_at_once() -> None:
    backlog = filled(UPLOAD, VOTE, UPLOAD)
    backlog.add("an event")

    assert backlog.urgent() == [message(VOTE, 2), "an event"]
    assert backlog.urgent() == []
    assert backlog.uploads == 2


def test_backlog_gives_uploads_one_by_one_in_order() -> None:
    backlog = filled(UPLOAD, VOTE, UPLOAD)

    taken = [backlog.upload() for _ in range(3)]

    assert taken == [message(UPLOAD, 1), message(UPLOAD, 3), None]


def test_backlog_acknowledges_in_the_order_of_arrival() -> None:
    backlog = filled(VOTE, UPLOAD, VOTE, UPLOAD)
    backlog.urgent()

    assert backlog.acknowledgements() == [AckToken(1, 1)]
    backlog.upload()
    assert backlog.acknowledgements() == [AckToken(1, 2), AckToken(1, 3)]
    backlog.upload()
    assert backlog.acknowledgements() == [AckToken(1, 4)]
    assert backlog.acknowledgements() == []


def test_backlog_tells_messages_without_packet_numbers_apart() -> None:
    backlog: InboundQueue[str] = InboundQueue()
    backlog.add(message(UPLOAD, 0))
    backlog.add(message(UPLOAD, 0))

    backlog.upload()

    assert backlog.acknowledgements() == [AckToken(1, 0)]
