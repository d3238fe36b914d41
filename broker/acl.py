"""Access rights at the broker, as a Mosquitto access file.

Rights hang on the authenticated user name: a board's is its device id, taken from its
certificate, and stands for `%u` in the patterns. A subscription is always granted by
Mosquitto 2.0; what the file does not allow is not delivered, and a publish to it is
answered with 0x87.
"""

import re
from collections.abc import Sequence

from starling.broker.broker_settings import REGISTRAR
from starling.protocol.errors import ConfigError
from starling.protocol.wire.topics import Topics

_USER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_DEVICE = re.compile(r"[a-z2-7]{26}")
_SELF = "%u"


def acl_text(
    topics: Topics,
    coordinators: Sequence[str],
    peers: Sequence[str] = (),
    expelled: Sequence[str] = (),
) -> str:
    """The access file of one fleet.

    Args:
      topics: The fleet's topics.
      coordinators: User names of its coordinators.
      peers: Of coordinators of other brokers, which only read here what coordinators
        say to all and to them.
      expelled: Who may write nothing, whatever else is said of them, and read nothing
        but a refusal.

    Raises:
      ConfigError: If a name is not 1 to 64 of a-z, 0-9 and '-'.
    """
    # As patterns, so that a board that is enrolled later needs no line, and the broker
    # no reload.
    writes = (topics.device_state, topics.up, topics.say)
    lines = ["# Boards: %u is the user name, which is the device id."]
    lines += [f"pattern write {topic(_SELF)}" for topic in writes]
    lines += [f"pattern read {name}" for name in topics.board_filters(_SELF)]
    lines += ["", "# All: whoever has a certificate may have it renewed."]
    lines += [f"pattern write {topics.renewal(_SELF)}"]
    lines += [f"pattern read {topics.renewed(_SELF)}"]
    lines += ["", f"user {REGISTRAR}"]
    # The registrar alone answers renewals: a board that could would hand out
    # certificates that others then look at.
    lines += [f"topic read {topics.renewal('+')}", f"topic write {topics.renewed('+')}"]
    # Sorted, so that the file changes only where a right does.
    for name in sorted(set(coordinators) - set(expelled)):
        lines += ["", f"user {check_user(name)}", *_coordinator_lines(topics, name)]
    for name in sorted(set(peers) - set(coordinators) - set(expelled)):
        lines += ["", f"user {check_user(name)}"]
        # It publishes at its own broker; ours need not trust it with more than reading.
        lines += [f"topic read {item}" for item in topics.peer_filters(name)]
    for name in sorted(set(expelled)):
        denied = [f"topic deny {each}" for each in _denied(topics, name)]
        lines += ["", f"user {check_user(name)}", *denied]
    return "\n".join(lines) + "\n"


def _denied(topics: Topics, name: str) -> tuple[str, ...]:
    """Topics that an expelled user may not use; a denial goes before all that allows.

    A board may still hear what coordinators say to it alone: why it is shut out.
    """
    if not _DEVICE.fullmatch(name):
        # The second is what begins with a dollar, which `#` does not match.
        return "#", "$SYS/#"
    heard = (item for item in topics.board_filters(name) if item != topics.down(name))
    own = topics.device_state, topics.up, topics.say, topics.renewal, topics.renewed
    return (*(topic(name) for topic in own), *heard, "$SYS/#")


def enrolment_acl_text(topics: Topics) -> str:
    """The access file of the enrolment listener.

    Nobody there has a name but the registrar. `%c` is the client id, so that each
    newcomer has topics of its own; Mosquitto denies a client everything whose id has a
    wildcard in it.

    Args:
      topics: The fleet's topics.
    """
    own, each = "%c", "+"
    asks = topics.enrolment_hello, topics.enrolment_claim
    answers = topics.enrolment_challenge, topics.enrolment_outcome
    lines = ["# Newcomers: %c is the client id, which nobody else knows."]
    lines += [f"pattern write {topic(own)}" for topic in asks]
    lines += [f"pattern read {topic(own)}" for topic in answers]
    lines += ["", f"user {REGISTRAR}"]
    lines += [f"topic read {topic(each)}" for topic in asks]
    lines += [f"topic write {topic(each)}" for topic in answers]
    return "\n".join(lines) + "\n"


def check_user(name: str) -> str:
    """Returns the name if it can stand in the access file.

    Raises:
      ConfigError: If it is not 1 to 64 of a-z, 0-9 and '-'.
    """
    if not _USER.fullmatch(name):
        raise ConfigError(f"user name {name!r}: use 1 to 64 of a-z, 0-9 and '-'")
    return name


def _coordinator_lines(topics: Topics, name: str) -> list[str]:
    prefix = topics.device_state("+").removesuffix("d/+/state")
    writes = (
        topics.down("+"),
        topics.model("+"),
        f"{prefix}t/+/manifest",
        topics.coordinator_state(name),
        topics.gossip(name),
        topics.private(name, "+"),
    )
    # Manifests and coordinators' states are everybody's, by the patterns.
    reads = topics.coordinator_filters(name)
    return [f"topic write {item}" for item in writes] + [
        f"topic read {item}" for item in reads
    ]
