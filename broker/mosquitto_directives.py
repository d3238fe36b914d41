"""Directives of a Mosquitto that is here already, and what there stands against ours.

A listener of the fleet's is one block of lines in a file of its own. It keeps its
rights only if no other line of that Mosquitto reaches into the block, and the block
reaches into nothing else.

Source: mosquitto.conf(5) of Mosquitto 2.0.11 and 2.1.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starling.broker.link_events import PACKET_BYTES_MAX

ACCESS_KEYS: Final = frozenset(
    {
        "acl_file",
        "allow_anonymous",
        "allow_zero_length_clientid",
        "auth_plugin",
        "auto_id_prefix",
        "password_file",
        "plugin",
        "psk_file",
    }
)
"""One of each for all listeners, unless `per_listener_settings` is true."""
LISTENER_KEYS: Final = frozenset(
    {
        "accept_protocol_versions",
        "bind_interface",
        "cafile",
        "capath",
        "certfile",
        "ciphers",
        "ciphers_tls1.3",
        "crlfile",
        "dhparamfile",
        "disable_client_cert_date_checks",
        "enable_proxy_protocol",
        "http_dir",
        "keyfile",
        "listener_allow_anonymous",
        "listener_auto_id_prefix",
        "max_connections",
        "max_qos",
        "max_topic_alias",
        "max_topic_alias_broker",
        "mount_point",
        "plugin_use",
        "protocol",
        "psk_hint",
        "require_certificate",
        "socket_domain",
        "tls_engine",
        "tls_engine_kpass_sha1",
        "tls_keyform",
        "tls_version",
        "use_identity_as_username",
        "use_subject_as_username",
        "use_username_as_clientid",
    }
)
"""Of the listener that was named last before them."""
_OPENS = ("listener", "port")
_BEGINS = ("listener", "connection")


@dataclass(frozen=True)
class Directive:
    """One line of a configuration.

    Attributes:
      file: Where it stands.
      line: Its number, from 1.
      key: Its first word.
      value: The rest, without spaces around it.
    """

    file: str
    line: int
    key: str
    value: str

    @property
    def place(self) -> str:
        """File and line, for people."""
        return f"{self.file}:{self.line}"

    @property
    def port(self) -> int | None:
        """TCP port that it opens; None for any other line."""
        first = self.value.split()[0] if self.value else ""
        opens = self.key in _OPENS and first.isascii() and first.isdigit()
        return int(first) if opens else None


def directives(file: str, text: str) -> tuple[Directive, ...]:
    """Lines of one file that say something, in their order."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(None, 1)
        if words and not words[0].startswith("#"):
            value = words[1].strip() if len(words) > 1 else ""
            found.append(Directive(file, number, words[0], value))
    return tuple(found)


def obstacles(
    before: Sequence[Directive], after: Sequence[Directive], port: int
) -> tuple[str, ...]:
    """Reasons why a listener of ours cannot stand between other lines.

    Args:
      before: Lines that Mosquitto reads before it, in their order.
      after: And after it.
      port: TCP port that it is to have.

    Returns:
      One for each line in the way, with what to do about it.
    """
    everywhere = (*before, *after)
    found = [
        f"{each.place}: has port {port} already; give the fleet another one: starling "
        "broker init --port"
        for each in everywhere
        if each.port == port
    ]
    # Without it Mosquitto has a single access file: ours would shut the other
    # listeners' clients out, or theirs would open ours.
    if _has_own_access(everywhere):
        ours = LISTENER_KEYS | ACCESS_KEYS
    else:
        ours = LISTENER_KEYS
        found += [_shared(each) for each in everywhere if _is_shared(each, port)]
    for each in after:
        # A line that begins a listener or a bridge ends the reach of ours.
        if each.key in _BEGINS:
            break
        if each.key in ours:
            found.append(
                f"{each.place}: {each.key} would be read as of the fleet's listener; "
                "move it above the line with include_dir"
            )
    found += [_limit(each) for each in everywhere if _is_limit(each)]
    return tuple(found)


def _has_own_access(lines: Sequence[Directive]) -> bool:
    """True if each listener has access rules of its own."""
    said = [each.value for each in lines if each.key == "per_listener_settings"]
    # The last one counts, as Mosquitto reads from top to bottom.
    return said[-1:] == ["true"]


def opened(lines: Sequence[Directive]) -> tuple[Directive, ...]:
    """Lines that open a listener."""
    return tuple(each for each in lines if each.key in _OPENS)


def _is_shared(line: Directive, port: int) -> bool:
    """True for what our access file would reach, or what would reach our listener."""
    if line.key == "allow_anonymous":
        return line.value != "false"
    opens = line.key in _OPENS and line.port != port
    return opens or line.key in ACCESS_KEYS


def _shared(line: Directive) -> str:
    what = f"{line.key} {line.value}".strip()
    return (
        f"{line.place}: {what}: without per_listener_settings one access file and one "
        "set of rules hold for all listeners, the fleet's as well; put "
        "`per_listener_settings true` first and each listener's own rules below its "
        "line, or run the fleet's broker beside this one: starling broker run"
    )


def _is_limit(line: Directive) -> bool:
    if line.key in ("max_packet_size", "message_size_limit"):
        return line.value.isdigit() and 0 < int(line.value) < PACKET_BYTES_MAX
    return (line.key, line.value) == ("retain_available", "false")


def _limit(line: Directive) -> str:
    return (
        f"{line.place}: {line.key} {line.value}: the fleet needs retained messages and "
        f"packets of {PACKET_BYTES_MAX} bytes"
    )
