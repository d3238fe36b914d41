"""Settings of a broker that an operator gives, and the addresses that follow."""

import ipaddress
import re
from dataclasses import dataclass

from starling.protocol.errors import ConfigError

CHECKER = "checker"
"""The client that `starling broker check` connects as; it says nothing to anybody."""
REGISTRAR = "registrar"
"""The user that answers newcomers at the enrolment listener."""
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")
LOCAL_HOSTS = ("127.0.0.1", "localhost")
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
"""Addresses to listen on that are none to connect to; `::` means IPv4, too."""


@dataclass(frozen=True)
class BrokerSettings:
    """Settings that the operator gave.

    Attributes:
      fleet: Name of the fleet, which stands in every topic.
      bind: Address to listen on; `::` for all of IPv6 and of IPv4.
      port: TCP port.
      hosts: Names and addresses under which boards reach it, besides the local ones.
      coordinators: User names of the coordinators.
      peers: User names of coordinators of other brokers, which only read gossip.
      expelled: User names that may do nothing any more.
      enrol_port: TCP port of the enrolment listener; 0 for none.
      pid_file: Of the Mosquitto that has the fleet's listener among its own; empty if
        `starling broker run` starts one for it.
    """

    fleet: str
    bind: str = "0.0.0.0"  # noqa: S104 - boards are on other machines; TLS on both sides
    port: int = 8883
    hosts: tuple[str, ...] = ()
    coordinators: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    expelled: tuple[str, ...] = ()
    enrol_port: int = 0
    pid_file: str = ""


def ascii_host(text: str) -> str:
    """A host as certificates and tokens hold it: an address, or a name in ASCII.

    A name with other letters is written as DNS has it (RFC 5890).

    Raises:
      ConfigError: If it is neither, or an address with a zone.
    """
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        pass
    else:
        # A link-local address needs the interface of the machine that uses it, which a
        # certificate cannot hold.
        if "%" in str(address):
            raise ConfigError(
                f"{text} has a zone, which differs from machine to machine; name "
                "another address, or a name",
                key="host",
            )
        return str(address)
    try:
        name = text.encode("idna").decode()
    except UnicodeError as error:
        raise ConfigError(f"{text!r} is no host: {error}", key="host") from error
    if not _HOST.fullmatch(name):
        raise ConfigError(f"{text!r} is neither a name nor an address", key="host")
    return name


def certified_names(settings: BrokerSettings) -> tuple[str, ...]:
    """Names and addresses that the broker's certificate holds, each once."""
    # Nobody connects to a wildcard, so that no certificate names one.
    bound = () if settings.bind in EVERYWHERE else (settings.bind,)
    return tuple(dict.fromkeys((*LOCAL_HOSTS, *bound, *settings.hosts)))


def is_loopback(host: str) -> bool:
    """True if a name or address leads every machine to itself."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def board_host(settings: BrokerSettings) -> str | None:
    """Host at which boards reach the broker; None if not configured.

    The first host, or else the address that it listens on alone.
    """
    if settings.hosts:
        return settings.hosts[0]
    return None if settings.bind in EVERYWHERE else settings.bind


def reachable_host(settings: BrokerSettings) -> str:
    """Host at which this machine reaches the broker."""
    return LOCAL_HOSTS[0] if settings.bind in EVERYWHERE else settings.bind
