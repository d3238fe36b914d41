"""Ports of a running coordinator; tests and simulators give their own.

The clock for display, the links to brokers and the arithmetic of a job are handed in,
so that whoever tests a fleet can put something that fails in their place.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from starling.broker.link_events import LinkEvent, LinkSettings
from starling.broker.runtime.mqtt_link import MqttLink
from starling.coordinator.aggregation.version_computation import recompute
from starling.coordinator.loop.ports import Clock, Compute, MessageBus
from starling.service.notifications import ServiceNotifier


class Bus(MessageBus, Protocol):
    """A connection to a broker, as `broker.runtime.mqtt_link.MqttLink` is one."""

    def start(self) -> None:
        """Begins to connect."""

    def stop(self, timeout_s: float) -> None:
        """Sends what was published and disconnects."""


OpenBus = Callable[[LinkSettings, Callable[[LinkEvent], None]], Bus]


def open_link(settings: LinkSettings, on_event: Callable[[LinkEvent], None]) -> Bus:
    """A real connection."""
    return MqttLink(settings, on_event, random.SystemRandom().random)


def wall_clock_ms() -> int:
    """Unix time, in milliseconds; for display."""
    return time.time_ns() // 10**6


def system_clock() -> Clock:
    """The machine's clock."""
    return Clock(time.monotonic, wall_clock_ms)


@dataclass(frozen=True)
class CoordinatorEnvironment:
    """The world of one coordinator.

    Attributes:
      open_bus: Opens a connection to a broker.
      compute: Makes a version from its job.
      clock: The time.
      notifier: To the service manager.
    """

    open_bus: OpenBus = open_link
    compute: Compute = recompute
    clock: Clock = field(default_factory=system_clock)
    notifier: ServiceNotifier = field(default_factory=ServiceNotifier.from_environment)
