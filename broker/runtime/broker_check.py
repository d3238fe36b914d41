"""Whether a broker does what the fleet needs: each check with its remedy.

A check of access looks at the answer to a publish, never at a subscription's, since
Mosquitto 2.0 grants every subscription and filters when it delivers.
"""

import queue
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
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
from starling.broker.runtime.broker_home import CHECKER, BrokerHome
from starling.broker.runtime.certificate_authority import certified_hosts, days_left
from starling.broker.runtime.mosquitto_process import find_mosquitto, mosquitto_version
from starling.broker.runtime.mqtt_link import MqttLink
from starling.durable.files import require_private
from starling.protocol.errors import FederationError, TransportError
from starling.protocol.wire.topics import Topics

TIMEOUT_S = 10.0
WARN_DAYS = 30
CHUNK_PACKET_BYTES = 70_000
"""A chunk of 64 KiB with everything around it."""
_SECRETS = ("server.key", f"{CHECKER}.key")
_RENEW = "run: starling broker init, and start the broker again"

_Event = TypeVar("_Event", LinkConnected, Delivered)


def check_broker(home: BrokerHome) -> list[HealthCheck]:
    """Checks files and the running broker.

    Raises:
      ConfigError: If there is no broker's folder.
    """
    home.require_settings()
    return [
        _guarded("broker.version", _version, "apt-get install mosquitto"),
        _authority_key(home),
        *[_private(home.path / name) for name in _SECRETS],
        _expiry("tls.expiry", home.server_certificate),
        _expiry("tls.authority-expiry", home.authority_certificate),
        _guarded(
            "tls.hosts", lambda: ", ".join(certified_hosts(home.server_certificate))
        ),
        *_conversation(home),
    ]


def _version() -> str:
    program = find_mosquitto()
    version = ".".join(map(str, mosquitto_version(program)))
    return f"Mosquitto {version} at {program}"


def _private(path: Path) -> HealthCheck:
    def found() -> str:
        require_private(path)
        return "readable by its owner alone"

    return _guarded(f"files.{path.stem}-private", found, f"chmod 600 {path}")


def _authority_key(home: BrokerHome) -> HealthCheck:
    if not home.authority_key.exists():
        found = "kept elsewhere; no certificate is issued here"
        return HealthCheck("files.authority-private", Verdict.OK, found)
    return _private(home.authority_key)


def _expiry(name: str, certificate: Path) -> HealthCheck:
    try:
        days = days_left(certificate)
    except FederationError as error:
        return HealthCheck(name, Verdict.FAIL, str(error), _RENEW)
    found = f"ends in {days:.0f} days"
    if days < WARN_DAYS:
        return HealthCheck(
            name, Verdict.FAIL if days < 0 else Verdict.WARN, found, _RENEW
        )
    return HealthCheck(name, Verdict.OK, found)


def _conversation(home: BrokerHome) -> Iterator[HealthCheck]:
    """Connects with a board's rights and tries what it may and may not do."""
    events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
    link = MqttLink(home.checker(), events.put, random.SystemRandom().random)
    topics = Topics(home.require_settings().fleet)
    link.start()
    try:
        connected = _await(events, LinkConnected)
        yield HealthCheck("mqtt.connect", Verdict.OK, "TLS 1.3 and MQTT 5")
        yield _packet_size(connected)
        yield from _access(link, events, topics)
    except TransportError as error:
        fix = "run: starling broker run, or look at its log"
        yield HealthCheck("mqtt.connect", Verdict.FAIL, str(error), fix)
    finally:
        link.stop(1.0)


def _packet_size(connected: LinkConnected) -> HealthCheck:
    name, size = "mqtt.max-packet", connected.packet_bytes_max
    if size < CHUNK_PACKET_BYTES:
        fix = f"set max_packet_size {PACKET_BYTES_MAX} in the broker's configuration"
        return HealthCheck(
            name, Verdict.FAIL, f"{size} bytes, too few for a chunk", fix
        )
    return HealthCheck(name, Verdict.OK, f"{size} bytes")


def _access(
    link: MqttLink, events: "queue.SimpleQueue[LinkEvent]", topics: Topics
) -> Iterator[HealthCheck]:
    fix = "run: starling broker init, and reload the broker"
    link.publish(MqttMessage(topics.say(CHECKER), b""))
    own = _await(events, Delivered).reason_code
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
    link.publish(MqttMessage(topics.up(f"not-{CHECKER}"), b""))
    others = _await(events, Delivered).reason_code
    name = "mqtt.acl-denied-other"
    if others < REFUSED_FROM:
        yield HealthCheck(name, Verdict.FAIL, "a board may publish as another one", fix)
    else:
        yield HealthCheck(name, Verdict.OK, f"refused with 0x{others:02x}")


def _await(events: "queue.SimpleQueue[LinkEvent]", kind: type[_Event]) -> _Event:
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


def _guarded(name: str, found: Callable[[], str], fix: str = _RENEW) -> HealthCheck:
    try:
        return HealthCheck(name, Verdict.OK, found())
    except FederationError as error:
        return HealthCheck(name, Verdict.FAIL, str(error), fix)
