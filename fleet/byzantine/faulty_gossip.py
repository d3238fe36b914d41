"""A coordinator's bus that loses, delays and adds gossip as it is ordered.

What is between coordinators and boards passes as it is.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from starling.broker.link_events import (
    AckToken,
    Delivered,
    LinkEvent,
    MessageArrived,
    MqttMessage,
)
from starling.coordinator.loop.ports import MessageBus
from starling.fleet.byzantine.vote_forger import VoteForger
from starling.fleet.faults.fault_timeline import FaultOrders
from starling.fleet.monitor.coordinator_point import number_of
from starling.protocol.chain.genesis import ValidatorSet
from starling.protocol.errors import DecodeError
from starling.protocol.ids import device_id, device_name
from starling.protocol.wire.topics import Topics

SendLate = Callable[[float, MqttMessage], None]
"""Publishes a message on the bus beneath after so many seconds."""


def speakers_of(validators: ValidatorSet) -> dict[str, int]:
    """The coordinators' numbers in a timeline, by their names in topics."""
    return {
        device_name(device_id(each.public)): number_of(each.name)
        for each in validators.members
    }


class FaultyGossip:
    """Between a coordinator's loop and its bus."""

    def __init__(
        self,
        on_event: Callable[[LinkEvent], None],
        standing: Callable[[], FaultOrders],
        forger: VoteForger,
        topics: Topics,
        speakers: Mapping[str, int],
        send_late: SendLate,
    ) -> None:
        """Has no bus yet; see `over`.

        Args:
          on_event: The loop; told of what happens on the bus.
          standing: The orders.
          forger: For second votes.
          topics: Of the fleet.
          speakers: See `speakers_of`.
          send_late: Delays messages.
        """
        self._on_event = on_event
        self._standing = standing
        self._forger = forger
        self._topics = topics
        self._speakers = speakers
        self._send_late = send_late
        # Real connections count up from 1, so these never meet theirs.
        self._ids = itertools.count(-1, -1)

    def over(self, bus: MessageBus) -> "FaultyGossip":
        """Puts it over a bus."""
        self._bus = bus
        return self

    def acknowledge_many(self, tokens: Iterable[AckToken]) -> None:
        """As the bus beneath."""
        self._bus.acknowledge_many(tokens)

    def publish(self, message: MqttMessage) -> int:
        """Sends a message, or keeps it back and says that it was sent."""
        standing = self._standing()
        # What boards are told is honest: the faults are between coordinators.
        if self._speaker(message.topic) is None:
            return self._bus.publish(message)
        if standing.equivocates:
            second = self._forger.contradiction(message.payload)
            if second is not None:
                self._send_late(standing.delay_s, replace(message, payload=second))
        if not standing.delay_s:
            return self._bus.publish(message)
        self._send_late(standing.delay_s, message)
        publish_id = next(self._ids)
        # The loop waits for the broker's word, and would send again.
        self._on_event(Delivered(publish_id, 0))
        return publish_id

    def happened(self, event: LinkEvent) -> None:
        """Something happened on the bus beneath."""
        if isinstance(event, MessageArrived) and self.is_lost(event):
            self._bus.acknowledge_many((event.token,))
            return
        self._on_event(event)

    def is_lost(self, event: MessageArrived) -> bool:
        """True if a message that comes in is not to be heard."""
        speaker = self._speaker(event.topic)
        if speaker is None:
            return False
        standing = self._standing()
        if self._speakers.get(speaker) in standing.deaf_to:
            return True
        # An honest core that hears a vote of its key which it never cast falls silent.
        return standing.equivocates and self._forger.is_own(event.payload)

    def _speaker(self, topic: str) -> str | None:
        """Sender of the gossip on a topic; None for any other topic."""
        try:
            branch, whose, _ = self._topics.parse(topic)
        except DecodeError:
            return None
        return whose if branch == "g" else None
