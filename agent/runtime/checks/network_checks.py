"""The way to the broker: name, port, TLS, and what the broker lets us do.

Each step needs the one before it, so that the first that fails is the fault. While the
agent runs it is not disturbed: a second connection under its name would end its own.
"""

import queue
import random
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from starling.agent.runtime.checks.check_rows import fail, ok, warn
from starling.broker.health_checks import HealthCheck
from starling.broker.link_events import LinkEvent, LinkSettings, TlsFiles
from starling.broker.runtime.access_probe import conversation
from starling.broker.runtime.mqtt_link import MqttLink
from starling.broker.runtime.tls.connection_failures import explain_failure
from starling.broker.runtime.tls.tls_stream import client_context
from starling.protocol.errors import TransportError
from starling.protocol.wire.topics import Topics

TIMEOUT_S = 5.0
ALERT_S = 1.0
"""How long the broker may take to refuse our certificate, which comes afterwards."""
WARN_DAYS = 30
DAY_S = 86_400.0


@dataclass(frozen=True)
class BrokerPlace:
    """Address of the broker, and the identity for it.

    Attributes:
      settings: Of the link, with TLS files.
      topics: The fleet's.
    """

    settings: LinkSettings
    topics: Topics


def network_checks(
    place: BrokerPlace, now_s: float, *, runs: bool
) -> Iterator[HealthCheck]:
    """Goes to the broker step by step; stops where the way ends.

    Args:
      place: Where it is.
      now_s: Unix time.
      runs: Whether the agent runs, whose connection must not be taken from it.
    """
    host, port = place.settings.host, place.settings.port
    try:
        # By itself, so that a wrong name is told from a closed port.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        text, fix = explain_failure(error, host)
        yield fail("net.dns", f"{host}: {text}", fix)
        return
    addresses = dict.fromkeys(str(each[4][0]) for each in found)
    yield ok("net.dns", f"{host} is {', '.join(addresses)}")
    try:
        way = socket.create_connection((host, port), TIMEOUT_S)
    except OSError as error:
        text, fix = explain_failure(error, host)
        yield fail("net.tcp", f"{place.settings.address}: {text}", fix)
        return
    yield ok("net.tcp", f"{place.settings.address} takes connections")
    with closing(way):
        # All of them before the first is shown: the connection is closed by then, and a
        # reader that takes its time holds none open.
        rows = list(_tls_checks(way, place, now_s))
    yield from rows
    if any(row.fix for row in rows if row.name == "tls.handshake"):
        return
    if runs:
        text = "not tried: the agent runs, and uses its connection"
        yield ok("mqtt.acl-write-own", text)
        return
    yield from _mqtt_checks(place)


def _tls_checks(
    way: socket.socket, place: BrokerPlace, now_s: float
) -> Iterator[HealthCheck]:
    name, host = "tls.handshake", place.settings.host
    files = place.settings.tls
    assert isinstance(files, TlsFiles)
    try:
        context = client_context(files)
    except ValueError as error:
        yield fail(name, str(error), "run: starling agent enrol --admission FILE")
        return
    try:
        with context.wrap_socket(way, server_hostname=host) as secure:
            peer = secure.getpeercert() or {}
            _wait_for_an_alert(secure)
    except (OSError, ssl.SSLError) as error:
        text, fix = explain_failure(error, host)
        yield fail(name, f"{place.settings.address}: {text}", fix)
        return
    yield ok(name, "TLS 1.3; each side takes the other's certificate")
    names = [" ".join(map(str, pair)) for pair in peer.get("subjectAltName", ())]
    yield ok("tls.broker-names", ", ".join(names))
    yield _broker_expiry(str(peer["notAfter"]), now_s)


def _wait_for_an_alert(secure: ssl.SSLSocket) -> None:
    """In TLS 1.3 the server looks at our certificate after we are done."""
    # A read is the only way to hear an alert that comes after the handshake.
    secure.settimeout(ALERT_S)
    try:
        if not secure.recv(1):
            raise ConnectionResetError("closed by the broker")
    except TimeoutError:
        # It waits for our first packet, as it should.
        return


def _broker_expiry(ends: str, now_s: float) -> HealthCheck:
    name = "tls.broker-expiry"
    days = (ssl.cert_time_to_seconds(ends) - now_s) / DAY_S
    found = f"the broker's certificate ends in {days:.0f} days"
    if days < WARN_DAYS:
        fix = "have the broker's operator start `starling broker run` anew"
        return warn(name, found, fix)
    return ok(name, found)


def _mqtt_checks(place: BrokerPlace) -> Iterator[HealthCheck]:
    events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
    link = MqttLink(place.settings, events.put, random.SystemRandom().random)
    link.start()
    try:
        yield from conversation(link, events, place.topics, place.settings.client_id)
    except TransportError as error:
        fix = "look at the broker's log"
        yield fail("mqtt.connect", f"{place.settings.address}: {error}", fix)
    finally:
        link.stop(ALERT_S)
