"""The configuration file of a Mosquitto 2.0 or 2.1 broker, as text.

Every limit is written out, since defaults differ between versions (2.1 lowered the
largest packet from unlimited to 2 MB). Nothing is kept on disk: boards resend from
their spool, and a broker's database that a power cut spoiled keeps it from starting.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from starling.broker.link_events import PACKET_BYTES_MAX
from starling.protocol.errors import ConfigError

_SINCE_2_1 = (2, 1, 0)


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
    # Bound to `::` by name Mosquitto takes IPv6 alone; without a name, both.
    bind = "" if listener.bind == "::" else f" {listener.bind}"
    lines = [
        f"listener {listener.port}{bind}",
        *_access_lines(listener),
        f"max_connections {listener.connections_max}",
        f"max_packet_size {listener.packet_bytes_max}",
        f"max_inflight_messages {listener.in_flight_max}",
        f"max_queued_messages {listener.queued_messages_max}",
        f"max_queued_bytes {listener.queued_bytes_max}",
        f"persistent_client_expiration {listener.session_expiry_max}",
        "max_keepalive 600",
        "allow_zero_length_clientid false",
        "set_tcp_nodelay true",
        "persistence false",
        "sys_interval 10",
        "log_dest stdout",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
    ]
    if version >= _SINCE_2_1:
        lines.append("accept_protocol_versions 5")
    if listener.run_as is not None:
        lines.append(f"user {listener.run_as}")
    return "\n".join(lines) + "\n"


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
