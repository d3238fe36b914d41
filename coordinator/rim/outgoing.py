"""What waits to be published: bounded, in order, sent again after a lost connection.

The link takes a window of messages and forgets them when the connection ends; here
they are kept until the broker answers. When too much waits, what boards will ask for
again anyway is dropped first: nothing that is dropped here is the only copy.
"""

from collections import deque
from collections.abc import Callable

from broker.events import Message
from protocol.errors import LimitError, TransportError

WAITING_BYTES_MAX = 128 << 20


class Outgoing:
    """The queue in front of a link.

    Attributes:
      dropped: How many messages found no room.
      bytes_sent: Payload bytes that the broker took over.
    """

    def __init__(self, publish: Callable[[Message], int]) -> None:
        """Starts empty.

        Args:
          publish: The link's; raises `TransportError` while it cannot.
        """
        self._publish = publish
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._in_flight: dict[int, Message] = {}
        self.dropped = 0
        self.bytes_sent = 0

    def add(self, message: Message) -> None:
        """Queues a message."""
        size = len(message.payload)
        if self._waiting_bytes + size > WAITING_BYTES_MAX:
            self.dropped += 1
            return
        self._waiting.append(message)
        self._waiting_bytes += size

    def pump(self) -> None:
        """Hands over as much as the link takes."""
        while self._waiting:
            message = self._waiting[0]
            try:
                publish_id = self._publish(message)
            except TransportError:
                return
            except LimitError:
                self.dropped += 1
            else:
                self._in_flight[publish_id] = message
            self._waiting.popleft()
            self._waiting_bytes -= len(message.payload)

    def delivered(self, publish_id: int) -> None:
        """The broker answered."""
        message = self._in_flight.pop(publish_id, None)
        if message is not None:
            self.bytes_sent += len(message.payload)
        self.pump()

    def disconnected(self) -> None:
        """What the broker did not answer is to be sent again."""
        unanswered = [self._in_flight[key] for key in sorted(self._in_flight)]
        self._in_flight.clear()
        self._waiting.extendleft(reversed(unanswered))
        self._waiting_bytes += sum(len(message.payload) for message in unanswered)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self._waiting and not self._in_flight
