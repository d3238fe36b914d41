"""Probe of a connection's rights at the broker: each check with its remedy.

A check of access looks at the answer to a publish, never at a subscription's, since
Mosquitto 2.0 grants every subscription and filters when it delivers.
"""

import queue
import time
from collections.abc import Iterator
from typing import TypeVar

from starling.broker.health_checks import HealthCheck, Verdict
from starling.broker.link_events import (
    NO_SUBSCRIBER,
    PACKET_BYTES_MAX,
    REFUSED_FROM,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    LinkEvent,
    MqttMessage,
)
from starling.broker.runtime.mqtt_link import MqttLink
from starling.protocol.errors import TransportError
from starling.protocol.wire.topics import Topics

TIMEOUT_S = 10.0
CHUNK_PACKET_BYTES = 70_000
"""A chunk of 64 KiB with everything around it."""

_Event = TypeVar("_Event", LinkConnected, Delivered)


def conversation(
    link: MqttLink,
    events: "queue.SimpleQueue[LinkEvent]",
    topics: Topics,
    user: str,
) -> Iterator[HealthCheck]:
    """Tries what a board may and may not do, over a link that was started.

    Args:
      link: Of the user.
      events: Where the link puts what happens.
      topics: The fleet's.
      user: The name that the broker knows it by.

    Raises:
      TransportError: If there is no connection, or it ends.
    """
    connected = await_event(events, LinkConnected)
    yield HealthCheck("mqtt.connect", Verdict.OK, "TLS 1.3 and MQTT 5")
    yield _packet_size(connected)
    yield from _access(link, events, topics, user)


def _packet_size(connected: LinkConnected) -> HealthCheck:
    name, size = "mqtt.max-packet", connected.packet_bytes_max
    if size < CHUNK_PACKET_BYTES:
        fix = f"set max_packet_size {PACKET_BYTES_MAX} in the broker's configuration"
        return HealthCheck(
            name, Verdict.FAIL, f"{size} bytes, too few for a chunk", fix
        )
    return HealthCheck(name, Verdict.OK, f"{size} bytes")


def _access(
    link: MqttLink, events: "queue.SimpleQueue[LinkEvent]", topics: Topics, user: str
) -> Iterator[HealthCheck]:
    fix = "run: starling broker init, and reload the broker"
    link.publish(MqttMessage(topics.say(user), b""))
    own = await_event(events, Delivered).reason_code
    name = "mqtt.acl-write-own"
    if own >= REFUSED_FROM:
        yield HealthCheck(name, Verdict.FAIL, f"refused with 0x{own:02x}", fix)
    else:
        yield HealthCheck(name, Verdict.OK, "a board may publish to its own topics")
    name = "mqtt.coordinator-present"
    if own == NO_SUBSCRIBER:
        start = "start a coordinator"
        yield HealthCheck(name, Verdict.WARN, "nobody listens to boards", start)
    else:
        yield HealthCheck(name, Verdict.OK, "somebody listens to boards")
    # An empty message to a board that does not exist: if the broker lets it through,
    # nobody is harmed.
    link.publish(MqttMessage(topics.up(f"not-{user}"), b""))
    others = await_event(events, Delivered).reason_code
    name = "mqtt.acl-denied-other"
    if others < REFUSED_FROM:
        yield HealthCheck(name, Verdict.FAIL, "a board may publish as another one", fix)
    else:
        yield HealthCheck(name, Verdict.OK, f"refused with 0x{others:02x}")


def await_event(events: "queue.SimpleQueue[LinkEvent]", kind: type[_Event]) -> _Event:
    """The next event of a kind; what comes before it is dropped.

    Raises:
      TransportError: If the connection ends, or nothing comes in time.
    """
    deadline_s = time.monotonic() + TIMEOUT_S
    while (left_s := deadline_s - time.monotonic()) > 0:
        try:
            event = events.get(timeout=left_s)
        except queue.Empty:
            break
        if isinstance(event, kind):
            return event
        if isinstance(event, LinkDisconnected):
            raise TransportError(event.reason)
    raise TransportError(f"no answer within {TIMEOUT_S:.0f} s")
