"""Canonical msgpack: one byte string per value, and a schema for every structure.

Values are nil, integers, byte strings, short texts and arrays by position. There are
no maps, floats, booleans or extensions. The decoder sets every limit of the unpacker
and then demands that encoding the value again gives the same bytes, which rejects
long-form integers, trailing bytes and every other second spelling.

A structure is a frozen dataclass with a `record` schema; `pack` and `unpack` turn it
into bytes and back, and each field is checked for kind and bound on both ways. The
schema also tells the unpacker how many arrays there can be and how long they are: the
library sets a list aside for as many items as a header claims, at each of up to 1,024
levels, so that 5 KB of nested headers would otherwise cost 0.2 s and 70 MB.

Source: the msgpack specification; why canonical form must be enforced by comparing
re-encoded bytes: msgpack/msgpack issues 215 and 317.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import msgpack

from protocol.errors import DecodeError, LimitError

DEPTH_MAX = 8
ITEMS_MAX = 1 << 17
UINT_MAX = (1 << 63) - 1
INT_MIN = -(1 << 63)

Value = None | int | bytes | str | list["Value"]
"""What the wire can carry: nil, integer, bytes, text, array."""

_T = TypeVar("_T")


def encode(value: object) -> bytes:
    """Encodes a value (tuples count as arrays) in its only canonical form.

    Args:
      value: nil, int, bytes, str or a list or tuple of these.

    Raises:
      DecodeError: If the value holds anything else; floats and booleans included.
    """
    _check_kinds(value, 0)
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def decode(
    data: bytes, bytes_max: int, items_max: int = ITEMS_MAX, arrays_max: int = ITEMS_MAX
) -> Value:
    """Decodes exactly one canonical value.

    Args:
      data: The bytes as received.
      bytes_max: Longest acceptable input; checked before anything else.
      items_max: Longest acceptable array.
      arrays_max: Most arrays that the value may consist of.

    Raises:
      LimitError: If the input is longer than `bytes_max`.
      DecodeError: If it is not one canonical value.
    """
    if len(data) > bytes_max:
        raise LimitError(f"{len(data)} bytes, {bytes_max} allowed")
    arrays = 0

    def count(array: list[Value]) -> list[Value]:
        nonlocal arrays
        arrays += 1
        if arrays > arrays_max:
            raise LimitError(f"more than {arrays_max} arrays")
        return array

    try:
        value: Value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            list_hook=count,
            max_str_len=4096,
            max_bin_len=bytes_max,
            max_array_len=min(items_max, len(data)),
            max_map_len=0,
            max_ext_len=0,
        )
        canonical = encode(value)
    # msgpack raises its own errors, UnicodeDecodeError and ValueError; StackError is
    # one of the latter.
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise DecodeError(f"not one msgpack value: {error}") from error
    if canonical != data:
        raise DecodeError("not in canonical form")
    return value


def _check_kinds(value: object, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise DecodeError(f"nested deeper than {DEPTH_MAX}")
    kind = type(value)
    if kind is list or kind is tuple:
        items: Any = value
        for item in items:
            if type(item) is not bytes:
                _check_kinds(item, depth + 1)
    elif kind is int:
        number: Any = value
        if not INT_MIN <= number <= UINT_MAX:
            raise DecodeError("integer outside 64 bits")
    elif value is not None and kind is not bytes and kind is not str:
        raise DecodeError(f"a {kind.__name__} cannot stand on the wire")


@dataclass(frozen=True)
class Schema:
    """How one field is checked on the way in and written on the way out.

    Attributes:
      name: What an error calls the expected form.
      build: From a wire value to the Python value; raises `DecodeError`.
      dump: From the Python value to a wire value.
      items_max: Length of the longest array in it; 0 if there is none.
      arrays_max: Most arrays that one value of it consists of.
    """

    name: str
    build: Callable[[Any], Any]
    dump: Callable[[Any], Any] = lambda value: value
    items_max: int = 0
    arrays_max: int = 0


def uint(most: int = UINT_MAX, least: int = 0) -> Schema:
    """An integer in [least, most]; a `least` below zero allows negative ones."""

    def build(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise DecodeError(f"expected an integer in [{least}, {most}]")
        return value

    # An enumeration's member goes out as its number.
    return Schema(f"integer in [{least}, {most}]", build, operator.index)


def binary(most: int, least: int = 0) -> Schema:
    """A byte string of `least` to `most` bytes."""

    def build(value: Any) -> bytes:
        if type(value) is not bytes:
            raise DecodeError("expected bytes")
        if not least <= len(value) <= most:
            raise LimitError(f"{len(value)} bytes, {least} to {most} allowed")
        return value

    return Schema(f"{least} to {most} bytes", build)


def exactly(count: int) -> Schema:
    """A byte string of exactly `count` bytes, such as a digest or a key."""
    return binary(count, count)


def text(most: int) -> Schema:
    """A printable text of at most `most` UTF-8 bytes."""

    def build(value: Any) -> str:
        if type(value) is not str or not (value.isprintable() or value == ""):
            raise DecodeError("expected printable text")
        if len(value.encode()) > most:
            raise LimitError(f"text longer than {most} bytes")
        return value

    return Schema(f"text of at most {most} bytes", build)


def maybe(item: Schema) -> Schema:
    """Nil, or what `item` describes."""
    return Schema(
        f"nil or {item.name}",
        lambda value: None if value is None else item.build(value),
        lambda value: None if value is None else item.dump(value),
        item.items_max,
        item.arrays_max,
    )


def many(item: Schema, most: int, least: int = 0) -> Schema:
    """A tuple of `least` to `most` items."""

    def build(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise DecodeError("expected an array")
        if not least <= len(value) <= most:
            raise LimitError(f"{len(value)} items, {least} to {most} allowed")
        return tuple([item.build(entry) for entry in value])

    return Schema(
        f"{least} to {most} of {item.name}",
        build,
        lambda value: [item.dump(entry) for entry in value],
        max(most, item.items_max),
        1 + most * item.arrays_max,
    )


def record(cls: type[Any], *items: Schema) -> Schema:
    """An array by position that becomes the frozen dataclass `cls`.

    Args:
      cls: A dataclass whose fields stand in wire order. Its `__post_init__` may raise
        `DecodeError` for what no single field can see.
      *items: One schema per field.
    """
    names = [field.name for field in fields(cls)]
    assert len(names) == len(items), cls
    pairs = tuple(zip(names, items, strict=True))

    def build(value: Any) -> Any:
        if type(value) is not list or len(value) != len(pairs):
            raise DecodeError(f"{cls.__name__}: expected {len(pairs)} fields")
        built = []
        for (name, item), entry in zip(pairs, value, strict=True):
            try:
                built.append(item.build(entry))
            except (DecodeError, LimitError) as error:
                detail = f"{cls.__name__}.{name}: {error}"
                raise type(error)(detail, error.reason) from error
        return cls(*built)

    def dump(value: Any) -> list[Any]:
        return [item.dump(getattr(value, name)) for name, item in pairs]

    return Schema(
        cls.__name__,
        build,
        dump,
        max(len(items), *(item.items_max for item in items)),
        1 + sum(item.arrays_max for item in items),
    )


@dataclass(frozen=True)
class Codec(Generic[_T]):
    """Bytes to structure and back, for one structure.

    Attributes:
      schema: The structure's form; nest it in other structures by this field.
      bytes_max: Longest encoding that is accepted.
    """

    schema: Schema
    bytes_max: int

    def pack(self, value: _T) -> bytes:
        """Encodes a structure. The result always unpacks to an equal structure.

        Raises:
          DecodeError, LimitError: If a field breaks its bound: our own bug, found
            before it reaches a peer.
        """
        dumped = self.schema.dump(value)
        self.schema.build(dumped)
        packed = encode(dumped)
        if len(packed) > self.bytes_max:
            raise LimitError(f"{self.schema.name}: {len(packed)} bytes packed")
        return packed

    def unpack(self, data: bytes) -> _T:
        """Decodes and checks a structure.

        Raises:
          DecodeError, LimitError: With the field's name in the message.
        """
        schema = self.schema
        value = decode(data, self.bytes_max, schema.items_max, schema.arrays_max)
        built: _T = schema.build(value)
        return built


def structure(cls: type[_T], bytes_max: int, *items: Schema) -> Codec[_T]:
    """The codec of a dataclass, given one schema per field in wire order."""
    return Codec(record(cls, *items), bytes_max)
