"""Listening socket of a page for people: its address, and who reaches it.

Source: RFC 4007, section 11 for zone ids, which are refused here; ip(7).
"""

import ipaddress
import socket

from starling.durable.files import refusal
from starling.protocol.errors import ConfigError

LOOPBACK = "127.0.0.1"
BACKLOG = 128
PORT_MAX = 65535
_FLAG = "--web"


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `[HOST:]PORT`.

    Args:
      text: As the operator gave it; an IPv6 address stands in brackets.

    Raises:
      ConfigError: If it is none.
    """
    host, colon, port = text.rpartition(":")
    host = host.strip("[]") if host.startswith("[") and host.endswith("]") else host
    # Without brackets nobody can tell where an IPv6 address ends and its port begins.
    wrong = (colon and not host) or (":" in host and not text.startswith("["))
    digits = port.isascii() and port.isdigit() and len(port) <= len(str(PORT_MAX))
    if wrong or not digits or int(port) > PORT_MAX:
        raise ConfigError(
            f"{text!r} is not [HOST:]PORT with a port of 0 to {PORT_MAX}, such as "
            "8080, 127.0.0.1:8080 or [::1]:8080",
            key=_FLAG,
        )
    return host or LOOPBACK, int(port)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
      host: Name or address.
      port: 0 for any that is free.

    Raises:
      ConfigError: If nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        why = refusal(error) if isinstance(error, OSError) else "no host name"
        raise ConfigError(
            f"cannot listen on {host}:{port}: {why}; choose another port or host",
            key=_FLAG,
        ) from error
    send_at_once(opened)
    return opened


def send_at_once(listener: socket.socket) -> None:
    """Has connections that a socket takes not wait for acknowledgements (tcp(7)).

    asyncio does so by itself only where a socket names its protocol, and
    `create_server` names none; the last part of an answer then comes 40 ms late.
    """
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def is_loopback(host: str) -> bool:
    """True if only this machine reaches an address that a socket is bound to."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url(listener: socket.socket, *, tls: bool = False) -> str:
    """Address at which a browser on this machine finds a listening socket."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104 - shown, not bound
    scheme = "https" if tls else "http"
    return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}/"
