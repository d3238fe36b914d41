"""Links to the brokers of other coordinators, which only receive gossip."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from starling.broker.link_events import (
    Delivered,
    LinkConnected,
    LinkDisconnected,
    LinkEvent,
    LinkSettings,
    MessageArrived,
)
from starling.coordinator.loop.messaging.publisher import address
from starling.coordinator.runtime.environment import OpenBus
from starling.coordinator.step.events import PeerFrameArrived
from starling.protocol.errors import TransportError
from starling.protocol.ids import DeviceId
from starling.protocol.wire.topics import Topics
from starling.service.repeated_warnings import RepeatedWarnings

log = logging.getLogger("starling.coordinator")


@dataclass(frozen=True)
class PeerBrokerEvent:
    """Something happened at a peer's broker.

    Attributes:
      number: Which one.
      event: What.
    """

    number: int
    event: LinkEvent


class PeerBrokers:
    """All links to peers' brokers.

    Attributes:
      conditions: A line for people for each of them.
    """

    def __init__(
        self,
        settings: Sequence[LinkSettings],
        open_bus: OpenBus,
        put: Callable[[PeerBrokerEvent], None],
    ) -> None:
        """Connects to nothing yet.

        Args:
          settings: Of each link.
          open_bus: Makes one.
          put: Called from the links' threads with what happens.
        """
        self._names = [each.address for each in settings]
        self._told = [RepeatedWarnings() for _ in settings]
        self.conditions = [f"{name} connecting" for name in self._names]
        self._links = [
            open_bus(each, partial(_put, put, number))
            for number, each in enumerate(settings)
        ]

    def start(self) -> None:
        """Begins to connect to all of them."""
        for link in self._links:
            link.start()

    def stop(self, timeout_s: float) -> None:
        """Disconnects from all of them."""
        for link in self._links:
            link.stop(timeout_s)

    def take(
        self, item: PeerBrokerEvent, topics: Topics, myself: DeviceId
    ) -> PeerFrameArrived | None:
        """Turns an event of the link into one of the core; None for nothing.

        Args:
          item: What happened.
          topics: Of the fleet.
          myself: Whose own gossip is no news.

        Raises:
          DecodeError: If the message stands on no topic of the fleet.
          TransportError: If a link failed for good.
        """
        name = self._names[item.number]
        match item.event:
            case MessageArrived(topic, payload):
                # Gossip may be lost: there is nothing to write down before this.
                self._links[item.number].acknowledge_many((item.event.token,))
                branch, who, _ = address(topics, topic)
                # The number says which broker it came by; 0 is our own.
                if branch == "g" and who != myself:
                    return PeerFrameArrived(who, payload, item.number + 1)
            case LinkConnected():
                self.conditions[item.number] = f"{name} connected"
                self._told[item.number].forget()
                log.info("connected to the broker at %s", name)
            case LinkDisconnected(reason, retry_in_s):
                if retry_in_s is None:
                    raise TransportError(reason)
                self.conditions[item.number] = f"{name} disconnected: {reason}"
                is_new = self._told[item.number].is_new(reason, time.monotonic())
                level = logging.WARNING if is_new else logging.DEBUG
                log.log(level, "broker at %s: %s", name, reason)
            case Delivered():
                return None
        return None


def _put(put: Callable[[PeerBrokerEvent], None], number: int, event: LinkEvent) -> None:
    put(PeerBrokerEvent(number, event))
