"""Checks that a broker does what the fleet needs, each with its remedy."""

import queue
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from starling.broker.broker_settings import CHECKER, reachable_host
from starling.broker.health_checks import HealthCheck, Verdict
from starling.broker.link_events import LinkEvent
from starling.broker.runtime.access_probe import conversation
from starling.broker.runtime.broker_certificates import renewal_check
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.certificate_authority import certified_hosts, days_left
from starling.broker.runtime.mosquitto_process import find_mosquitto, mosquitto_version
from starling.broker.runtime.mqtt_link import MqttLink
from starling.broker.runtime.pinned_authority import fetch_authority, fingerprint
from starling.durable.files import require_private
from starling.protocol.errors import FederationError, StorageError, TransportError
from starling.protocol.wire.topics import Topics

WARN_DAYS = 30
_SECRETS = ("server.key", f"{CHECKER}.key")
_RENEW = "run: starling broker init, and start the broker again"


def check_broker(home: BrokerHome) -> list[HealthCheck]:
    """Checks files and the running broker.

    Raises:
      ConfigError: If there is no broker's folder.
    """
    settings = home.require_settings()
    secret = [home.path / name for name in _SECRETS]
    if settings.enrol_port:
        secret += home.enrolment.secrets
    return [
        _guarded("broker.version", _version, "apt-get install mosquitto"),
        _authority_key(home),
        *map(_private, secret),
        _expiry("tls.expiry", home.certificates.server),
        _expiry("tls.authority-expiry", home.authority_certificate),
        renewal_check(home.certificates, settings, time.time()),
        _guarded(
            "tls.hosts", lambda: ", ".join(certified_hosts(home.certificates.server))
        ),
        *_conversation(home),
        *_newcomers(home),
    ]


def _version() -> str:
    program = find_mosquitto()
    version = ".".join(map(str, mosquitto_version(program)))
    return f"Mosquitto {version} at {program}"


def _newcomers(home: BrokerHome) -> list[HealthCheck]:
    """Row about the enrolment listener, if there is one."""
    settings = home.require_settings()
    if not settings.enrol_port:
        return []
    host, port = reachable_host(settings), settings.enrol_port
    place = f"{host}:{port}"

    def found() -> str:
        fetch_authority(host, port, fingerprint(home.authority_certificate))
        return f"{place} shows the fleet's authority to newcomers"

    return [_guarded("enrolment.listener", found, "start the broker again")]


def _private(path: Path) -> HealthCheck:
    def found() -> str:
        require_private(path)
        return "readable by its owner alone"

    return _guarded(f"files.{path.stem}-private", found, f"chmod 600 {path}")


def _authority_key(home: BrokerHome) -> HealthCheck:
    name, key = "files.authority-private", home.certificates.authority_key
    try:
        is_here = home.certificates.has_key()
    except StorageError as error:
        fix = "put its token or disk back, or take it away cleanly"
        return HealthCheck(name, Verdict.FAIL, str(error), fix)
    if not is_here:
        found = "kept elsewhere; no certificate is issued here"
        return HealthCheck(name, Verdict.OK, found)
    return _private(key)


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
    # As a client with a board's rights: what a file says is not yet what the broker
    # does.
    link = MqttLink(home.own_client(CHECKER), events.put, random.SystemRandom().random)
    topics = Topics(home.require_settings().fleet)
    link.start()
    try:
        yield from conversation(link, events, topics, CHECKER)
    except TransportError as error:
        fix = "run: starling broker run, or look at its log"
        yield HealthCheck("mqtt.connect", Verdict.FAIL, str(error), fix)
    finally:
        link.stop(1.0)


def _guarded(name: str, found: Callable[[], str], fix: str = _RENEW) -> HealthCheck:
    try:
        return HealthCheck(name, Verdict.OK, found())
    except FederationError as error:
        return HealthCheck(name, Verdict.FAIL, str(error), fix)
