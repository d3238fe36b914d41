from broker.events import Message
from coordinator.rim import outgoing
from coordinator.rim.outgoing import Outgoing
from protocol.errors import LimitError, TransportError


class FakeLink:
    """Takes `window` messages while connected, none longer than 10 bytes."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.taken: list[bytes] = []

    def publish(self, message: Message) -> int:
        if len(message.payload) > 10:
            raise LimitError("too long")
        if self.window == 0:
            raise TransportError("full")
        self.window -= 1
        self.taken.append(message.payload)
        return len(self.taken)


def message(payload: bytes) -> Message:
    return Message("topic", payload)


def test_outgoing_window_full_keeps_order_until_there_is_room() -> None:
    link = FakeLink(1)
    waiting = Outgoing(link.publish)
    for payload in (b"a", b"b", b"c"):
        waiting.add(message(payload))

    waiting.pump()
    link.window = 2
    waiting.delivered(1)

    assert link.taken == [b"a", b"b", b"c"]
    assert not waiting.idle
    assert waiting.bytes_sent == 1


def test_outgoing_connection_lost_sends_the_unanswered_again_first() -> None:
    link = FakeLink(2)
    waiting = Outgoing(link.publish)
    for payload in (b"a", b"b", b"c"):
        waiting.add(message(payload))
    waiting.pump()

    waiting.disconnected()
    link.window = 3
    waiting.pump()

    assert link.taken == [b"a", b"b", b"a", b"b", b"c"]


def test_outgoing_message_over_the_limit_stops_nobody() -> None:
    link = FakeLink(9)
    waiting = Outgoing(link.publish)
    waiting.add(message(bytes(11)))
    waiting.add(message(b"a"))

    waiting.pump()

    assert link.taken == [b"a"]
    assert waiting.dropped == 1


def test_outgoing_too_much_waiting_is_dropped_and_counted() -> None:
    waiting = Outgoing(FakeLink(0).publish)
    large = bytes(outgoing.WAITING_BYTES_MAX)

    waiting.add(message(large))
    waiting.add(message(b"a"))

    assert waiting.dropped == 1
