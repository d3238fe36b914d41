"""Settings of a broker that an operator gives, and the addresses that follow."""

import ipaddress
import re
from dataclasses import dataclass

from starling.protocol.errors import ConfigError

CHECKER = "checker"
"""The client that `starling broker check` connects as; it says nothing to anybody."""
REGISTRAR = "registrar"
"""The user that answers newcomers at the enrolment listener."""
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
    """

    fleet: str
    bind: str = "0.0.0.0"  # noqa: S104 - boards are on other machines; TLS on both sides
    port: int = 8883
    hosts: tuple[str, ...] = ()
    coordinators: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    expelled: tuple[str, ...] = ()
    enrol_port: int = 0


_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")


def check_hosts(settings: BrokerSettings) -> None:
    """Refuses names and addresses that no certificate can hold.

    Raises:
      ConfigError: If one is neither an address nor a host name in ASCII.
    """
    for key, host in (
        ("--bind", settings.bind),
        *(("--host", h) for h in settings.hosts),
    ):
        if not (_is_address(host) or _HOST.fullmatch(host)):
            raise ConfigError(
                f"{host!r} is no address and no host name; write a name with other "
                "letters in its xn-- form",
                key=key,
            )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def certified_names(settings: BrokerSettings) -> tuple[str, ...]:
    """Names and addresses that the broker's certificate holds, each once."""
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
