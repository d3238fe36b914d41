"""Canonical msgpack: one byte string per value, and a schema for every structure.

Values are nil, integers, byte strings, short texts and arrays by position. There are
no maps, floats, booleans or extensions. The decoder sets every limit of the unpacker
and then demands that encoding the value again gives the same bytes, which rejects
long-form integers, trailing bytes and every other second spelling.

A structure is a frozen dataclass with a `record` schema; `pack` and `unpack` turn it
into bytes and back, and each field is checked for kind and bound on both ways, in one
pass: a schema is a pair of closures, and what it has checked is not looked at again.
The schema also tells the unpacker how many arrays there can be and how long they are:
the library sets a list aside for as many items as a header claims, at each of up to
1,024 levels, so that 5 KB of nested headers would otherwise cost 0.2 s and 70 MB.

Source: the msgpack specification; why canonical form must be enforced by comparing
re-encoded bytes: msgpack/msgpack issues 215 and 317.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Generic, NoReturn, TypeVar

import msgpack

from starling.protocol.errors import DecodeError, LimitError
from starling.protocol.schema.record_codegen import (
    RecordField,
    straight_build,
    straight_dump,
)

DEPTH_MAX = 8
ITEMS_MAX = 1 << 17
UINT_MAX = (1 << 63) - 1
INT_MIN = -(1 << 63)
_UNCOUNTED_BYTES = 1024
"""Of a structure no longer than this, arrays are not counted: whatever it holds, the
lists take less than 64 KB, and the schema looks at each of them."""

Value = None | int | bytes | str | list["Value"]
"""What the wire can carry: nil, integer, bytes, text, array."""

_T = TypeVar("_T")
# One for all, which keeps its buffer; it works under the interpreter's lock throughout.
_pack: Callable[[object], bytes] = msgpack.Packer().pack
_Hook = Callable[[list[Value]], list[Value]]


def encode(value: object) -> bytes:
    """Encodes a value (tuples count as arrays) in its only canonical form.

    Args:
      value: nil, int, bytes, str or a list or tuple of these.

    Raises:
      DecodeError: If the value holds anything else; floats and booleans included.
    """
    _check_kinds(value, 0)
    return _pack(value)


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
    value = _read(data, bytes_max, items_max, _counter(arrays_max))
    if encode(value) != data:
        raise DecodeError("not in canonical form")
    return value


def _read(
    data: bytes, bytes_max: int, items_max: int, list_hook: _Hook | None
) -> Value:
    """One value within all limits; form, kinds and depth are still to be checked."""
    size = len(data)
    if size > bytes_max:
        raise LimitError(f"{size} bytes, {bytes_max} allowed")
    try:
        value: Value = msgpack.unpackb(
            data,
            list_hook=list_hook,
            max_str_len=4096,
            max_bin_len=bytes_max,
            max_array_len=min(items_max, size),
            max_map_len=0,
            max_ext_len=0,
        )
    # msgpack raises its own errors, UnicodeDecodeError and ValueError; StackError is
    # one of the latter.
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise DecodeError(f"not one msgpack value: {error}") from error
    return value


def _counter(arrays_max: int) -> _Hook:
    arrays = 0

    def count(array: list[Value]) -> list[Value]:
        nonlocal arrays
        arrays += 1
        if arrays > arrays_max:
            raise LimitError(f"more than {arrays_max} arrays")
        return array

    return count


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
      build: From a wire value to the Python value; raises `DecodeError` or
        `LimitError` unless kind and bounds are the schema's.
      dump: From the Python value to a wire value that `build` takes; raises likewise.
      items_max: Length of the longest array in it; 0 if there is none.
      arrays_max: Most arrays that one value of it consists of.
      test: As in `schema.record_codegen.RecordField`: source that is true if both give
        `{0}` back.
    """

    name: str
    build: Callable[[Any], Any]
    dump: Callable[[Any], Any]
    items_max: int = 0
    arrays_max: int = 0
    test: str = ""


def uint(most: int = UINT_MAX, least: int = 0) -> Schema:
    """An integer in [least, most]; a `least` below zero allows negative ones."""
    assert INT_MIN <= least <= most <= UINT_MAX

    def build(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise DecodeError(f"expected an integer in [{least}, {most}]")
        return value

    def dump(value: Any) -> int:
        # An enumeration's member goes out as its number.
        return build(value if type(value) is int else operator.index(value))

    test = f"type({{0}}) is int and {least} <= {{0}} <= {most}"
    return Schema(f"integer in [{least}, {most}]", build, dump, test=test)


def binary(most: int, least: int = 0) -> Schema:
    """A byte string of `least` to `most` bytes."""

    def build(value: Any) -> bytes:
        if type(value) is not bytes:
            raise DecodeError("expected bytes")
        if not least <= len(value) <= most:
            raise LimitError(f"{len(value)} bytes, {least} to {most} allowed")
        return value

    test = f"type({{0}}) is bytes and {least} <= len({{0}}) <= {most}"
    return Schema(f"{least} to {most} bytes", build, build, test=test)


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

    return Schema(f"text of at most {most} bytes", build, build)


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
    build_item, dump_item = item.build, item.dump

    def build(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise DecodeError("expected an array")
        check(len(value))
        return tuple(map(build_item, value))

    def dump(value: Any) -> list[Any]:
        check(len(value))
        return list(map(dump_item, value))

    def check(count: int) -> None:
        if not least <= count <= most:
            raise LimitError(f"{count} items, {least} to {most} allowed")

    return Schema(
        f"{least} to {most} of {item.name}",
        build,
        dump,
        max(most, item.items_max),
        1 + most * item.arrays_max,
    )


def from_first(item: Schema, most: int) -> Schema:
    """A tuple of 1 to `most` integers: the first, then each other minus the first.

    Short where they lie close together, such as times of one moment.
    """
    differences = many(uint(UINT_MAX, -UINT_MAX), most, 1)

    def build(value: Any) -> tuple[int, ...]:
        first, *rest = differences.build(value)
        return (item.build(first), *(item.build(first + entry) for entry in rest))

    def dump(values: tuple[int, ...]) -> Any:
        checked = [item.dump(value) for value in values]
        rest = [entry - checked[0] for entry in checked[1:]]
        return differences.dump([*checked[:1], *rest])

    name = f"1 to {most} of {item.name}, from the first"
    return Schema(name, build, dump, most, 1)


def record(cls: type[Any], *items: Schema) -> Schema:
    """An array by position that becomes the frozen dataclass `cls`.

    Args:
      cls: A dataclass whose fields stand in wire order. Its `__post_init__` may raise
        `DecodeError` for what no single field can see.
      *items: One schema per field.
    """
    names = tuple([field.name for field in fields(cls)])
    count = len(names)
    assert count == len(items), cls
    builds = tuple([item.build for item in items])
    dumps = tuple(zip(names, [item.dump for item in items], strict=True))

    def build(value: Any) -> Any:
        if type(value) is not list or len(value) != count:
            raise DecodeError(f"{cls.__name__}: expected {count} fields")
        entries = iter(value)
        try:
            built = tuple(map(operator.call, builds, entries))
        except (DecodeError, LimitError) as error:
            # The one that failed has been taken from the iterator, as the last.
            failed = count - operator.length_hint(entries) - 1
            _name_field(f"{cls.__name__}.{names[failed]}", error)
        return cls(*built)

    def dump(value: Any) -> list[Any]:
        dumped: list[Any] = []
        try:
            for name, dump_item in dumps:
                dumped.append(dump_item(getattr(value, name)))
        except (DecodeError, LimitError) as error:
            _name_field(f"{cls.__name__}.{names[len(dumped)]}", error)
        return dumped

    straight = [RecordField(item.test, item.build, item.dump) for item in items]
    return Schema(
        cls.__name__,
        straight_build(cls, straight, build),
        straight_dump(cls, straight, dump),
        max(count, *(item.items_max for item in items)),
        1 + sum(item.arrays_max for item in items),
    )


def _name_field(name: str, error: DecodeError | LimitError) -> NoReturn:
    raise type(error)(f"{name}: {error}", error.reason) from error


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

        Every field is checked; what no single field can see was checked when the
        frozen dataclass was made.

        Raises:
          DecodeError, LimitError: If a field breaks its bound: our own bug, found
            before it reaches a peer.
        """
        packed = _pack(self.schema.dump(value))
        if len(packed) > self.bytes_max:
            raise LimitError(f"{self.schema.name}: {len(packed)} bytes packed")
        return packed

    def unpack(self, data: bytes) -> _T:
        """Decodes and checks a structure.

        Raises:
          DecodeError, LimitError: With the field's name in the message.
        """
        schema = self.schema
        counted = len(data) > _UNCOUNTED_BYTES
        hook = _counter(schema.arrays_max) if counted else None
        value = _read(data, self.bytes_max, schema.items_max, hook)
        built: _T = schema.build(value)
        # The schema has seen to it that nothing but wire kinds is in there.
        if _pack(value) != data:
            raise DecodeError("not in canonical form")
        return built


def structure(cls: type[_T], bytes_max: int, *items: Schema) -> Codec[_T]:
    """The codec of a dataclass, given one schema per field in wire order."""
    return Codec(record(cls, *items), bytes_max)
