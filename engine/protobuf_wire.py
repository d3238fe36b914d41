"""Reads and writes the protobuf wire format, in the one way that graphs are written.

Other readers accept more: tags of which only 32 bits count, numbers with more bytes
than they need, groups, fields that they do not know, a second value that replaces the
first. Each of these is a way for two readers to see two graphs in the same bytes, so
that all of them are refused. Long contents stay views of the bytes.

Source: Protocol Buffers encoding (protobuf.dev/programming-guides/encoding).
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from starling.protocol.errors import DecodeError, LimitError

FIELDS_MAX = 1 << 19
"""Of one model, those of nested messages included."""
TEXT_BYTES_MAX = 1024
_VARINT, _BYTES, _FIXED32 = 0, 2, 5
_LENGTH_SHIFT_MAX = 63
_LONGER = 0x80
"""From here on a byte says that a number goes on."""
_INT32_MAX = (1 << 31) - 1

_Value = TypeVar("_Value")


class FieldKind(Enum):
    """Kind of a protobuf field."""

    INT64 = _VARINT
    # Members of an Enum with equal values would be one: kinds that share a wire type
    # have numbers of their own.
    INT32 = -1
    FLOAT = _FIXED32
    BYTES = _BYTES
    TEXT = -2
    MESSAGE = -3


_WIRE_TYPES = {
    FieldKind.INT64: _VARINT,
    FieldKind.INT32: _VARINT,
    FieldKind.FLOAT: _FIXED32,
    FieldKind.BYTES: _BYTES,
    FieldKind.TEXT: _BYTES,
    FieldKind.MESSAGE: _BYTES,
}


@dataclass(frozen=True)
class ProtobufField:
    """A field that may stand in a message.

    Attributes:
      name: For errors and for `ProtobufMessage`.
      kind: What it holds.
      repeated: Whether it may stand there more than once; never packed.
      wire: Wire type of its kind.
    """

    name: str
    kind: FieldKind
    repeated: bool = False
    wire: int = field(init=False)

    def __post_init__(self) -> None:
        """Looks the wire type up once, and not for each field of each message."""
        object.__setattr__(self, "wire", _WIRE_TYPES[self.kind])


Form = Mapping[int, ProtobufField]
"""Every field that a message may hold, by number."""


class ProtobufMessage:
    """The fields of one message, by name; see `ProtobufReader.message`."""

    def __init__(self, place: str) -> None:
        """Holds nothing yet."""
        self.place = place
        self.values: dict[str, list[object]] = {}

    def all(self, name: str, kind: type[_Value]) -> list[_Value]:
        """All values of a field, in order."""
        found = self.values.get(name, [])
        assert all(isinstance(value, kind) for value in found)
        return found  # type: ignore[return-value]  # asserted above

    def one(self, name: str, kind: type[_Value]) -> _Value:
        """The value of a field that must be there.

        Raises:
          DecodeError: If it is not.
        """
        found = self.values.get(name)
        if not found:
            raise DecodeError(f"graph: a {self.place} without {name}")
        value = found[0]
        assert isinstance(value, kind)
        return value

    def has(self, name: str) -> bool:
        """True if the field is present."""
        return name in self.values


class ProtobufReader:
    """Reads the messages of one model, and counts their fields.

    Attributes:
      fields: How many were read so far.
    """

    def __init__(self) -> None:
        """Has read nothing."""
        self.fields = 0

    def count(self, fields: int) -> None:
        """Counts fields of a message that need not be read again.

        Raises:
          LimitError: If the model has more than `FIELDS_MAX` fields.
        """
        self.fields += fields
        if self.fields > FIELDS_MAX:
            raise LimitError(f"graph: more than {FIELDS_MAX} fields")

    def message(self, data: memoryview, form: Form, place: str) -> ProtobufMessage:
        """One message; nested ones stay bytes.

        Args:
          data: All of it.
          form: What it may hold.
          place: What it is, for errors.

        Raises:
          DecodeError: If it is truncated, malformed, or holds what is not in the form.
          LimitError: If the model has more than `FIELDS_MAX` fields.
        """
        found = ProtobufMessage(place)
        values = found.values
        position, end = 0, len(data)
        while position < end:
            self.fields += 1
            if self.fields > FIELDS_MAX:
                raise LimitError(f"graph: more than {FIELDS_MAX} fields")
            # Nearly all keys and lengths are numbers of one byte.
            key = data[position]
            position += 1
            if key >= _LONGER:
                key, position = _varint(data, position - 1)
            known = form.get(key >> 3)
            if known is None:
                raise DecodeError(f"graph: field {key >> 3} of a {place} is refused")
            if key & 7 != known.wire:
                raise DecodeError(
                    f"graph: {place}.{known.name} has wire type {key & 7}"
                )
            value, position = _value(data, position, known, place)
            before = values.get(known.name)
            if before is None:
                values[known.name] = [value]
            elif known.repeated:
                before.append(value)
            else:
                raise DecodeError(f"graph: {place}.{known.name} stands there twice")
        return found


def _value(
    data: memoryview, position: int, field: ProtobufField, place: str
) -> tuple[object, int]:
    kind = field.kind
    if field.wire == _VARINT:
        number, position = _varint(data, position)
        # A negative one travels as 64 bits, and so is refused, too.
        if kind is FieldKind.INT32 and number > _INT32_MAX:
            raise DecodeError(f"graph: {place}.{field.name} is out of range")
        return (number - (1 << 64) if number >> 63 else number), position
    length = 4
    if field.wire == _BYTES:
        length, position = _varint(data, position)
    if length > len(data) - position:
        raise DecodeError(f"graph: truncated {place}.{field.name}")
    content, position = data[position : position + length], position + length
    if kind is FieldKind.TEXT:
        return _text(content, place, field.name), position
    if kind is FieldKind.FLOAT:
        (real,) = struct.unpack("<f", content)
        if not math.isfinite(real):
            raise DecodeError(f"graph: {place}.{field.name} is not finite")
        return real, position
    return content, position


def _text(content: memoryview, place: str, name: str) -> str:
    if len(content) > TEXT_BYTES_MAX:
        raise LimitError(f"graph: {place}.{name}: {len(content)} bytes")
    try:
        text = str(content, "utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError(f"graph: {place}.{name} is not UTF-8") from error
    # Names stand in messages and logs: no escapes of a terminal, no ends of lines.
    if not text.isprintable():
        raise DecodeError(f"graph: {place}.{name} is not printable")
    return text


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number below 2^64, written with no more bytes than it needs."""
    if position < len(data) and data[position] < _LONGER:
        return data[position], position + 1
    value = 0
    for shift in range(0, _LENGTH_SHIFT_MAX + 1, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < _LONGER:
            # A last byte of zero adds nothing: the same number has a shorter form.
            if (byte == 0 and shift) or value >> 64:
                break
            return value, position
    raise DecodeError("graph: truncated or overlong number")


def number_field(number: int, value: int) -> bytes:
    """A field that holds an int64 or int32."""
    return _packed(number << 3 | _VARINT) + _packed(value & (1 << 64) - 1)


def float_field(number: int, value: float) -> bytes:
    """A field that holds a float32."""
    return _packed(number << 3 | _FIXED32) + struct.pack("<f", value)


def bytes_field(number: int, value: bytes | memoryview) -> bytes:
    """A field that holds bytes, text or a message."""
    return b"".join((_packed(number << 3 | _BYTES), _packed(len(value)), value))


def text_field(number: int, value: str) -> bytes:
    """A field that holds text."""
    return bytes_field(number, value.encode())


def _packed(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
