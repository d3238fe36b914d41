"""Outbound queue: bounded, votes first, sent again after a lost connection.

The link takes a window of messages and forgets them when the connection ends; here
they are kept until the broker answers. Each lane goes before those behind it, and of
those behind the first one only a little is in the broker's hands at a time, so that no
vote waits for a model. Nothing that is dropped here is the only copy.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from starling.broker.link_events import MqttMessage
from starling.coordinator.loop.messaging.priority_lanes import (
    ROOMS,
    DeferredMessage,
    LaneQueue,
    weight,
)
from starling.coordinator.wire.lanes import PriorityLane
from starling.protocol.errors import LimitError, TransportError


@dataclass
class _Flight:
    """Messages of a lane that the broker has not yet acknowledged."""

    messages: int = 0
    payload_bytes: int = 0


class OutboundQueue:
    """The queues in front of a link.

    Attributes:
      dropped: How many messages found no room or were too long, by the lane's name.
    """

    def __init__(
        self, publish: Callable[[MqttMessage], int], dropped: Counter[str] | None = None
    ) -> None:
        """Starts empty.

        Args:
          publish: The link's; raises `TransportError` while it cannot.
          dropped: Where to count what is dropped, by the lane's name.
        """
        self._publish = publish
        self._queues = {lane: LaneQueue(room) for lane, room in ROOMS.items()}
        self._flights = {lane: _Flight() for lane in ROOMS}
        self._in_flight: dict[int, tuple[PriorityLane, MqttMessage]] = {}
        self.dropped: Counter[str] = Counter() if dropped is None else dropped

    def add(self, item: MqttMessage | DeferredMessage, lane: PriorityLane) -> None:
        """Queues a message."""
        dropped = self._queues[lane].add(item)
        if dropped:
            self.dropped[lane.name.lower()] += dropped

    def pump(self) -> None:
        """Hands over as much as the link takes, and as much as is good for votes."""
        for lane, queue in self._queues.items():
            while (message := queue.first()) is not None:
                if not self._has_room(lane, message):
                    break
                if not self._hand_over(lane, message):
                    return

    def _has_room(self, lane: PriorityLane, message: MqttMessage) -> bool:
        room, flight = ROOMS[lane], self._flights[lane]
        if not flight.messages:
            return True
        payload_bytes = flight.payload_bytes + weight(message)
        return (
            flight.messages < room.in_flight_max
            and payload_bytes <= room.in_flight_bytes_max
        )

    def _hand_over(self, lane: PriorityLane, message: MqttMessage) -> bool:
        """Publishes the next message of a lane; whether the link still takes any."""
        try:
            publish_id = self._publish(message)
        except TransportError:
            return False
        except LimitError:
            self.dropped[lane.name.lower()] += 1
        else:
            flight = self._flights[lane]
            flight.messages += 1
            flight.payload_bytes += weight(message)
            self._in_flight[publish_id] = lane, message
        self._queues[lane].take()
        return True

    def delivered(self, publish_id: int) -> None:
        """The broker answered."""
        found = self._in_flight.pop(publish_id, None)
        if found is not None:
            lane, message = found
            flight = self._flights[lane]
            flight.messages -= 1
            flight.payload_bytes -= weight(message)
        self.pump()

    def disconnected(self) -> None:
        """Schedules all that the broker did not acknowledge to be sent again."""
        for publish_id in sorted(self._in_flight, reverse=True):
            lane, message = self._in_flight[publish_id]
            self._queues[lane].put_back(message)
        self._in_flight.clear()
        self._flights = {lane: _Flight() for lane in ROOMS}
