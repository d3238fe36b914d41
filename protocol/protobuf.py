"""Reads and writes the protobuf wire format, as much of it as graphs need.

What is read is bounded and stays bytes until it is asked for; nothing is built from a
schema.

Source: Protocol Buffers encoding (protobuf.dev/programming-guides/encoding).
"""

from collections.abc import Iterator

from protocol.errors import DecodeError, LimitError

FIELDS_MAX = 1 << 20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Field = tuple[int, int, int | memoryview]
"""Field number, wire type, value."""


def fields(data: memoryview, place: str) -> Iterator[Field]:
    """The fields of one message, nested ones still as bytes.

    Args:
      data: The message.
      place: What it is, for errors.

    Raises:
      DecodeError: If it is truncated or malformed.
      LimitError: If it has more than `FIELDS_MAX` fields.
    """
    position = 0
    count = 0
    while position < len(data):
        count += 1
        if count > FIELDS_MAX:
            raise LimitError(f"graph: more than {FIELDS_MAX} fields in one {place}")
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            integer, position = _varint(data, position)
            yield number, wire, integer
            continue
        if wire == _BYTES:
            length, position = _varint(data, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise DecodeError(f"graph: unknown wire type {wire} in a {place}")
        if length > len(data) - position or number == 0:
            raise DecodeError(f"graph: truncated or malformed {place}")
        yield number, wire, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise DecodeError("graph: truncated or overlong number")


def message(wire: int, value: int | memoryview, place: str) -> memoryview:
    """A field that holds bytes.

    Raises:
      DecodeError: If it holds a number.
    """
    if wire != _BYTES or isinstance(value, int):
        raise DecodeError(f"graph: {place} of the wrong wire type")
    return value


def string(wire: int, value: int | memoryview) -> str:
    """A field that holds text.

    Raises:
      DecodeError: If it is a number or no UTF-8.
    """
    try:
        return bytes(message(wire, value, "text")).decode()
    except UnicodeDecodeError as error:
        raise DecodeError("graph: a name is not UTF-8") from error


def number_field(number: int, value: int) -> bytes:
    """A field that holds a number, not negative."""
    return _packed(number << 3 | _VARINT) + _packed(value)


def bytes_field(number: int, value: bytes | memoryview) -> bytes:
    """A field that holds bytes, text or a message."""
    return b"".join((_packed(number << 3 | _BYTES), _packed(len(value)), value))


def _packed(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
