"""Ports of a running coordinator; tests and simulators give their own.

The clock for display, the links to brokers and the arithmetic of a job are handed in,
so that whoever tests a fleet can put something that fails in their place.
"""

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from starling.broker.link_events import AckToken, LinkEvent, LinkSettings, MqttMessage
from starling.broker.runtime.mqtt_link import MqttLink
from starling.coordinator.aggregation.strategy import ModelState, PackedModel
from starling.coordinator.aggregation.version_computation import Fetch, recompute
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.learning.task import TaskSpec
from starling.service.notifications import ServiceNotifier

Compute = Callable[
    [OpeningKey, TaskSpec, AggregationJob, ModelState, Fetch], PackedModel
]


class Bus(Protocol):
    """A connection to a broker, as `broker.runtime.mqtt_link.MqttLink` is one."""

    def start(self) -> None:
        """Begins to connect."""

    def stop(self, timeout_s: float) -> None:
        """Sends what was published and disconnects."""

    def publish(self, message: MqttMessage) -> int:
        """Hands a message over; the result is named by `Delivered`."""

    def acknowledge_many(self, tokens: Iterable[AckToken]) -> None:
        """Tells the broker that messages are safe."""


OpenBus = Callable[[LinkSettings, Callable[[LinkEvent], None]], Bus]


def open_link(settings: LinkSettings, on_event: Callable[[LinkEvent], None]) -> Bus:
    """A real connection."""
    return MqttLink(settings, on_event, random.SystemRandom().random)


def wall_clock_ms() -> int:
    """Unix time, in milliseconds; for display."""
    return time.time_ns() // 10**6


@dataclass(frozen=True)
class CoordinatorEnvironment:
    """The world of one coordinator.

    Attributes:
      open_bus: Opens a connection to a broker.
      compute: Makes a version from its job.
      now_ms: Unix time.
      notifier: To the service manager.
    """

    open_bus: OpenBus = open_link
    compute: Compute = recompute
    now_ms: Callable[[], int] = wall_clock_ms
    notifier: ServiceNotifier = field(default_factory=ServiceNotifier.from_environment)
