"""PUBLISH packets as our own clients make them, read without paho's objects.

paho makes a message and a table of properties of each packet, which takes it two
hundred calls. Of a packet at QoS 1 without properties, or with an expiry alone, four
fields are read here; every other one is left to paho.

Source: MQTT 5.0 sections 3.3.1 to 3.3.3.
"""

from dataclasses import dataclass

_QOS_1 = 0b0010
_QOS_BITS = 0b0110
_RETAIN_BIT = 0b0001
_LENGTH_BYTES = 2
_NO_PROPERTIES = b"\0"
_EXPIRY_ALONE = b"\5\2"
_EXPIRY_BYTES = 4


@dataclass(frozen=True, slots=True)
class PublishPacket:
    """Fields of a PUBLISH packet.

    Attributes:
      topic: Where to.
      payload: What.
      retain: Whether the broker had kept it.
      packet_id: For its PUBACK.
    """

    topic: str
    payload: bytes
    retain: bool
    packet_id: int


def read_publish(command: int, rest: bytes | bytearray) -> PublishPacket | None:
    """Reads a packet; None if it is of another form, or none at all.

    Args:
      command: Its first byte.
      rest: What follows its length.

    Raises:
      UnicodeDecodeError: If the topic is no text.
    """
    end = _LENGTH_BYTES + int.from_bytes(rest[:_LENGTH_BYTES])
    properties = end + _LENGTH_BYTES
    if command & _QOS_BITS != _QOS_1 or len(rest) <= properties:
        return None
    if rest.startswith(_NO_PROPERTIES, properties):
        start = properties + len(_NO_PROPERTIES)
    elif rest.startswith(_EXPIRY_ALONE, properties):
        start = properties + len(_EXPIRY_ALONE) + _EXPIRY_BYTES
    else:
        return None
    if len(rest) < start:
        return None
    return PublishPacket(
        bytes(rest[_LENGTH_BYTES:end]).decode(),
        bytes(rest[start:]),
        bool(command & _RETAIN_BIT),
        int.from_bytes(rest[end:properties]),
    )
