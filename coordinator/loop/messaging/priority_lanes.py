"""Priority lanes of the outbound queue: decisions, short messages, long ones.

A lane is a queue with room of its own. Within it those for whom messages are take
turns, and the messages for one keep their order; where a lane is full, the oldest
message goes for whom most waits, so that nobody's flood displaces another's.

Source: Nagle, "On packet switches with infinite storage", RFC 970 (a queue for each
source, served in turn).
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from starling.broker.link_events import MqttMessage
from starling.coordinator.wire.lanes import PriorityLane

MESSAGE_OVERHEAD_BYTES = 256
"""That a message counts for beside its payload, so that short ones are bounded, too."""


@dataclass(frozen=True)
class LaneLimits:
    """Limits of a lane.

    Attributes:
      waiting_bytes_max: That wait here.
      in_flight_bytes_max: That the broker was handed and has not answered; what stands
        before a vote that comes now is no more than that of the lanes behind it.
      in_flight_max: The same in messages; all lanes behind the first leave some of the
        link's window to it.
    """

    waiting_bytes_max: int
    in_flight_bytes_max: float
    in_flight_max: float


ROOMS = {
    PriorityLane.CONSENSUS: LaneLimits(32 << 20, math.inf, math.inf),
    PriorityLane.CONTROL: LaneLimits(32 << 20, 128 << 10, 24),
    # At 10 Mbit/s half a megabyte holds a vote up for 0.4 s.
    PriorityLane.BULK: LaneLimits(32 << 20, 512 << 10, 16),
}


@dataclass(frozen=True, eq=False)
class DeferredMessage:
    """A message that is made when its turn comes, so that many may wait.

    Attributes:
      topic: Its topic.
      make: Makes it; None if it cannot be made any more.
    """

    topic: str
    make: Callable[[], MqttMessage | None]


def weight(item: MqttMessage | DeferredMessage) -> int:
    """Bytes that something counts for while it waits."""
    if isinstance(item, DeferredMessage):
        return MESSAGE_OVERHEAD_BYTES
    return len(item.payload) + MESSAGE_OVERHEAD_BYTES


class LaneQueue:
    """One lane.

    Attributes:
      waiting_bytes: Of everything in it.
    """

    def __init__(self, room: LaneLimits) -> None:
        """Starts empty."""
        self._room = room
        self._by_topic: OrderedDict[str, deque[MqttMessage | DeferredMessage]] = (
            OrderedDict()
        )
        self._bytes: dict[str, int] = {}
        self.waiting_bytes = 0

    def add(self, item: MqttMessage | DeferredMessage) -> int:
        """Takes something in; how many had to go for it, itself perhaps among them."""
        self._put(item, first=False)
        dropped = 0
        while self.waiting_bytes > self._room.waiting_bytes_max:
            longest = max(self._bytes, key=self._bytes.__getitem__)
            self._take(longest)
            dropped += 1
        return dropped

    def put_back(self, message: MqttMessage) -> None:
        """Takes in again what was taken last; it is the next one for its topic."""
        self._put(message, first=True)

    def first(self) -> MqttMessage | None:
        """The next message; None if there is none."""
        while self._by_topic:
            topic, waiting = next(iter(self._by_topic.items()))
            item = waiting[0]
            if not isinstance(item, DeferredMessage):
                return item
            made = item.make()
            self._take(topic)
            if made is not None:
                self._put(made, first=True)
        return None

    def take(self) -> None:
        """Removes the next message; then it is another topic's turn."""
        topic = next(iter(self._by_topic))
        self._take(topic)
        if topic in self._by_topic:
            self._by_topic.move_to_end(topic)

    def _put(self, item: MqttMessage | DeferredMessage, *, first: bool) -> None:
        waiting = self._by_topic.setdefault(item.topic, deque())
        if first:
            waiting.appendleft(item)
            self._by_topic.move_to_end(item.topic, last=False)
        else:
            waiting.append(item)
        size = weight(item)
        self._bytes[item.topic] = self._bytes.get(item.topic, 0) + size
        self.waiting_bytes += size

    def _take(self, topic: str) -> None:
        waiting = self._by_topic[topic]
        size = weight(waiting.popleft())
        self._bytes[topic] -= size
        self.waiting_bytes -= size
        if not waiting:
            del self._by_topic[topic], self._bytes[topic]
