"""PUBLISH packets at QoS 0 and 1, the only ones that we ask for, read without paho.

paho makes a message and a table of properties of each packet, which takes it two
hundred calls, and 19 seconds for one that a stranger filled with empty properties. Here
four fields and one property are read. No other changes what a packet means to us: we
announce no topic aliases.

Source: MQTT 5.0 sections 1.5.5, 3.3.1 to 3.3.3, and 3.8.4.
"""

from dataclasses import dataclass

from starling.protocol.wire.trace_context import TRACEPARENT, TRACEPARENT_CHARS

_QOS_1 = 0b0010
_QOS_BITS = 0b0110
_RETAIN_BIT = 0b0001
_LENGTH_BYTES = 2
_VARIABLE_BYTES_MAX = 4
_MORE_BIT = 0x80
_USER_PROPERTY = b"\x26"
_PARENT_KEY = _USER_PROPERTY + len(TRACEPARENT).to_bytes(2) + TRACEPARENT.encode()


@dataclass(frozen=True, slots=True)
class PublishPacket:
    """Fields of a PUBLISH packet.

    Attributes:
      topic: Where to.
      payload: What.
      retain: Whether the broker had kept it.
      packet_id: For its PUBACK; 0 at QoS 0.
      traceparent: Its user property of that name, of whatever form; cut where it is
        longer than one of ours. Empty without one.
    """

    topic: str
    payload: bytes
    retain: bool
    packet_id: int
    traceparent: str = ""


def read_publish(command: int, rest: bytes | bytearray) -> PublishPacket:
    """Reads a packet.

    Args:
      command: Its first byte.
      rest: What follows its length.

    Raises:
      ValueError: If it is cut, at QoS 2, or its topic is no text.
    """
    # We subscribe at QoS 1, so that a message at QoS 2 breaks MQTT 5.0 section 3.8.4.
    if command & _QOS_BITS not in (0, _QOS_1):
        raise ValueError("a message at QoS 2")
    topic_ends = _LENGTH_BYTES + int.from_bytes(rest[:_LENGTH_BYTES])
    id_ends = topic_ends + (_LENGTH_BYTES if command & _QOS_BITS else 0)
    start, size = _variable_length(rest, id_ends)
    if len(rest) < start + size:
        raise ValueError("a message that is cut")
    return PublishPacket(
        bytes(rest[_LENGTH_BYTES:topic_ends]).decode(),
        bytes(rest[start + size :]),
        bool(command & _RETAIN_BIT),
        int.from_bytes(rest[topic_ends:id_ends]),
        _traceparent(rest[start : start + size]) if size else "",
    )


def _variable_length(rest: bytes | bytearray, at: int) -> tuple[int, int]:
    """Place behind a length of one to four bytes, and the length.

    Seven bits a byte, the lowest first, and a bit that says whether more follow.
    """
    size = 0
    for place, byte in enumerate(rest[at : at + _VARIABLE_BYTES_MAX]):
        size |= (byte & ~_MORE_BIT) << (7 * place)
        if not byte & _MORE_BIT:
            return at + place + 1, size
    raise ValueError("a message whose length is none")


def _traceparent(properties: bytes | bytearray) -> str:
    """A user property's value; who hides it in another's says no more than with it."""
    # Searched for and not parsed: a stranger may fill a packet with properties, and
    # this stays one pass.
    at = properties.find(_PARENT_KEY)
    if at < 0:
        return ""
    start = at + len(_PARENT_KEY) + _LENGTH_BYTES
    size = int.from_bytes(properties[start - _LENGTH_BYTES : start])
    # One character more than ours has, so that a longer one is seen to be none.
    value = properties[start : start + min(size, TRACEPARENT_CHARS + 1)]
    return bytes(value).decode("ascii", "replace")
