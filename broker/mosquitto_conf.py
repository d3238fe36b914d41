"""The configuration file of a Mosquitto 2.0 or 2.1 broker, as text.

Every limit is written out, since defaults differ between versions (2.1 lowered the
largest packet from unlimited to 2 MB). Nothing is kept on disk: boards resend from
their spool, and a broker's database that a power cut spoiled keeps it from starting.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starling.broker.link_events import PACKET_BYTES_MAX
from starling.protocol.errors import ConfigError

_SINCE_2_1 = (2, 1, 0)
_SHARED = (
    "allow_zero_length_clientid false",
    "persistence false",
    "log_dest stdout",
    "log_type error",
    "log_type warning",
    "log_timestamp_format %Y-%m-%dT%H:%M:%S",
)


@dataclass(frozen=True)
class ServerFiles:
    """Files that the broker reads.

    Attributes:
      authority: Certificate of the authority that signs all clients.
      certificate: The broker's own.
      key: Its secret key.
      access: The access file of `broker.acl`.
    """

    authority: Path
    certificate: Path
    key: Path
    access: Path


@dataclass(frozen=True)
class ListenerConfig:
    """One broker.

    Attributes:
      bind: Address to listen on; `::` for all of IPv6 and of IPv4.
      port: TCP port.
      files: Certificates and access file; None for a listener without any protection,
        which only a loopback address may have (for measurements).
      run_as: User to run as when started by root; None for Mosquitto's default.
      packet_bytes_max: Largest packet; below every known broker's default.
      in_flight_max: Unacknowledged messages per client and direction.
      queued_messages_max: Messages kept for one slow or absent client; more are
        dropped, and the sender hears nothing, so receipts are signed end to end.
      queued_bytes_max: The same in bytes.
      session_expiry_max: How long an absent client is remembered; Mosquitto's form.
      connections_max: Clients at one time.
    """

    bind: str
    port: int
    files: ServerFiles | None
    run_as: str | None = None
    packet_bytes_max: int = PACKET_BYTES_MAX
    in_flight_max: int = 1000
    queued_messages_max: int = 20_000
    queued_bytes_max: int = 64 << 20
    session_expiry_max: str = "1d"
    connections_max: int = 20_000


def listener_text(listener: ListenerConfig, version: tuple[int, int, int]) -> str:
    """The configuration file.

    Args:
      listener: What to configure.
      version: Of the Mosquitto that will read it.

    Raises:
      ConfigError: If an unprotected listener would be reachable from other machines.
    """
    lines = [
        *_access_lines(listener),
        f"max_connections {listener.connections_max}",
        f"max_packet_size {listener.packet_bytes_max}",
        f"max_inflight_messages {listener.in_flight_max}",
        f"max_queued_messages {listener.queued_messages_max}",
        f"max_queued_bytes {listener.queued_bytes_max}",
        f"persistent_client_expiration {listener.session_expiry_max}",
        "max_keepalive 600",
        "set_tcp_nodelay true",
        "sys_interval 10",
        "log_type notice",
    ]
    return _text(listener, lines, version)


def included_text(listener: ListenerConfig, version: tuple[int, int, int]) -> str:
    """The file for a Mosquitto that is here already: the listener, and nothing else.

    Persistence, logs, queues and all that Mosquitto has once for all its listeners stay
    as they are.

    Args:
      listener: What to configure; `run_as` and the limits of queues are not used.
      version: Of that Mosquitto.

    Raises:
      ConfigError: As `listener_text`.
    """
    lines = [
        _opening(listener),
        *_access_lines(listener),
        f"max_connections {listener.connections_max}",
        *_protocols(version),
    ]
    return "\n".join(lines) + "\n"


ENROLMENT_CONNECTIONS_MAX = 256
"""Newcomers at one time; each is gone once it is answered."""
_ENROLMENT_QUEUED_MAX = 256
_ENROLMENT_MEMORY_BYTES = 256 << 20


@dataclass(frozen=True)
class EnrolmentListenerConfig:
    """The broker for newcomers: a process of its own beside the fleet's.

    In the fleet's own broker a stranger could take a board's session over by its client
    id, and spend memory and queues that boards need.

    Attributes:
      port: TCP port.
      files: The broker's certificate, and the access file of newcomers.
      users: Password file, which knows the registrar alone.
      run_as: As the fleet's listener.
      bind: Where the gate that stands before it reaches it.
    """

    port: int
    files: ServerFiles
    users: Path
    run_as: str | None = None
    bind: str = "127.0.0.1"


def enrolment_text(
    listener: EnrolmentListenerConfig, version: tuple[int, int, int]
) -> str:
    """The configuration file of the enrolment listener.

    A client without a name is a newcomer. One that gives a name needs its password, and
    so is refused unless it is the registrar.

    Args:
      listener: What to configure.
      version: Of the Mosquitto that will read it.
    """
    files = listener.files
    lines = [
        # Newcomers have no certificate yet. What each may do is bounded by its own
        # client id in the access file, and by the token's secret.
        "allow_anonymous true",
        f"password_file {listener.users}",
        f"cafile {files.authority}",
        f"certfile {files.certificate}",
        f"keyfile {files.key}",
        "tls_version tlsv1.3",
        "require_certificate false",
        f"acl_file {files.access}",
        f"max_connections {ENROLMENT_CONNECTIONS_MAX}",
        f"max_packet_size {PACKET_BYTES_MAX}",
        "max_inflight_messages 16",
        f"max_queued_messages {_ENROLMENT_QUEUED_MAX}",
        f"max_queued_bytes {16 << 20}",
        f"memory_limit {_ENROLMENT_MEMORY_BYTES}",
        "retain_available false",
        "max_keepalive 120",
        "persistent_client_expiration 1h",
        "sys_interval 0",
    ]
    return _text(listener, lines, version)


def _text(
    listener: ListenerConfig | EnrolmentListenerConfig,
    lines: Sequence[str],
    version: tuple[int, int, int],
) -> str:
    """The file: where to listen, the lines that differ, and what all brokers share."""
    made = [_opening(listener), *lines, *_SHARED, *_protocols(version)]
    if listener.run_as is not None:
        made.append(f"user {listener.run_as}")
    return "\n".join(made) + "\n"


def _opening(listener: ListenerConfig | EnrolmentListenerConfig) -> str:
    # Bound to `::` by name Mosquitto takes IPv6 alone; without a name, both.
    bind = "" if listener.bind == "::" else f" {listener.bind}"
    return f"listener {listener.port}{bind}"


def _protocols(version: tuple[int, int, int]) -> tuple[str, ...]:
    return ("accept_protocol_versions 5",) if version >= _SINCE_2_1 else ()


def _access_lines(listener: ListenerConfig) -> list[str]:
    files = listener.files
    if files is None:
        if not ipaddress.ip_address(listener.bind).is_loopback:
            raise ConfigError(f"a listener on {listener.bind} needs TLS", key="bind")
        return ["allow_anonymous true"]
    return [
        "allow_anonymous false",
        f"cafile {files.authority}",
        f"certfile {files.certificate}",
        f"keyfile {files.key}",
        "tls_version tlsv1.3",
        "require_certificate true",
        "use_identity_as_username true",
        # Or one board could take another's session over by its client id.
        "use_username_as_clientid true",
        f"acl_file {files.access}",
    ]
