"""Canonical msgpack: one byte string per value, and a class for every structure.

A structure is a subclass of `Structure`: an array by position, whose fields carry their
bounds in their annotations. msgspec reads bytes straight into it and checks the number
of fields, kinds and bounds on the way; it sets nothing aside for what a header merely
claims. Added here is what it leaves open: a longest encoding, printable text, and the
canonical form, for which encoding the value again must give the same bytes. That
rejects long-form integers, trailing bytes and every other second spelling.

Values are nil, integers, byte strings, short texts and arrays by position. There are no
maps, floats, booleans or extensions.

Source: the msgpack specification; why canonical form must be enforced by comparing
re-encoded bytes: msgpack/msgpack issues 215 and 317.
"""

import dataclasses
import operator
from collections.abc import Callable
from functools import cache, cached_property
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta, inspect

from starling.protocol.errors import DecodeError, LimitError
from starling.protocol.schema.decode_errors import refusal
from starling.protocol.schema.field_rules import (
    FROM_FIRST,
    added_up,
    differences,
    text_check,
)

DEPTH_MAX = 8
UINT_MAX = (1 << 63) - 1
INT_MIN = -(1 << 63)

_T = TypeVar("_T")
# Integers of other kinds, such as numpy's, go out as what they are.
_encode: Callable[[object], bytes] = msgspec.msgpack.Encoder(
    enc_hook=operator.index
).encode


def uint(most: int = UINT_MAX, least: int = 0) -> Meta:
    """Bounds of an integer in [least, most]; below zero with such a `least`."""
    assert INT_MIN <= least <= most <= UINT_MAX
    return Meta(ge=int(least), le=int(most))


def binary(most: int, least: int = 0) -> Meta:
    """Bounds of a byte string of `least` to `most` bytes."""
    return Meta(min_length=least, max_length=most)


def exactly(count: int) -> Meta:
    """Bounds of a byte string of `count` bytes, such as a signature."""
    return binary(count, count)


def text(most: int) -> Meta:
    """Bounds of a printable text of at most `most` UTF-8 bytes."""
    return Meta(max_length=most)


def many(most: int, least: int = 0) -> Meta:
    """Bounds of a tuple of `least` to `most` items."""
    return Meta(min_length=least, max_length=most)


def from_first(most: int) -> Meta:
    """Bounds of 1 to `most` integers: the first, then each other minus the first.

    Short where they lie close together, such as times of one moment. Only the bytes
    hold differences; the items' own bounds are those of a difference, and the values
    are integers from 0 to `UINT_MAX`.
    """
    return Meta(min_length=1, max_length=most, extra={FROM_FIRST: UINT_MAX})


Uint = Annotated[int, uint()]
"""An integer from 0 to `UINT_MAX`."""
Byte = Annotated[int, uint(255)]
"""A number of a kind, codec or mechanism."""
Flag = Annotated[int, uint(1)]
"""0 or 1; the wire has no booleans."""
Difference = Annotated[int, uint(UINT_MAX, -UINT_MAX)]
"""An item of a `from_first` tuple."""


def encode(value: object) -> bytes:
    """Encodes a value without a schema (tuples count as arrays) in its canonical form.

    Args:
      value: nil, int, bytes, str or a list or tuple of these.

    Raises:
      DecodeError: If the value holds anything else; floats and booleans included.
    """
    _check_kinds(value, 0)
    return _encode(value)


def _check_kinds(value: object, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise DecodeError(f"nested deeper than {DEPTH_MAX}")
    # Not `isinstance`, for which a bool is an integer: the wire has none.
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


class _DataclassFields:
    """The fields as `dataclasses` expects them of what type checkers call a dataclass.

    So `dataclasses.fields` and `dataclasses.replace` take structures.
    """

    def __get__(
        self, instance: object, owner: type[msgspec.Struct]
    ) -> dict[str, "dataclasses.Field[Any]"]:
        """The fields of a class by name."""
        return _dataclass_fields(owner.__struct_fields__)


@cache
def _dataclass_fields(names: tuple[str, ...]) -> dict[str, "dataclasses.Field[Any]"]:
    made = dataclasses.make_dataclass("_", names)
    return {field.name: field for field in dataclasses.fields(made)}


class Structure(
    msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True
):
    """Base of what travels or is stored: its fields in wire order.

    Every field has a bound. A `__post_init__` may raise `DecodeError` for what no
    single field can see. A class with cached properties is declared with `dict=True`.
    """

    __dataclass_fields__ = _DataclassFields()


class Codec(Generic[_T]):
    """Bytes to structure and back, for one structure.

    Attributes:
      kind: The structure's class, or another annotated type of wire values.
      bytes_max: Longest encoding that is accepted.
    """

    def __init__(self, kind: Any, bytes_max: int, *, short: bool = False) -> None:
        """Prepares a decoder.

        Args:
          kind: As the attribute; `structure` is typed for classes.
          bytes_max: As the attribute.
          short: Whether last fields that have their default are left out, so that a
            field that came later changes nothing where it is not used.
        """
        self.kind = kind
        self.bytes_max = bytes_max
        self._encode: Callable[[Any], bytes] = _encode_short if short else _encode
        self._decode: Callable[[bytes], _T] = msgspec.msgpack.Decoder(kind).decode

    def pack(self, value: _T) -> bytes:
        """Encodes a structure. The result always unpacks to an equal structure.

        Raises:
          DecodeError, LimitError: If a field breaks its bound: our own bug, found
            before it reaches a peer.
        """
        change = self._differences
        try:
            packed = self._encode(value if change is None else change(value))
        except (DecodeError, LimitError):
            raise
        except (ValueError, TypeError, OverflowError) as error:
            raise DecodeError(f"{self._name}: not a wire value: {error}") from error
        if len(packed) > self.bytes_max:
            raise LimitError(f"{self._name}: {len(packed)} bytes packed")
        # Read again at once, so that a value out of bounds is refused where it is made,
        # and not by its receiver.
        self._read(packed)
        return packed

    def unpack(self, data: bytes) -> _T:
        """Decodes and checks a structure.

        Raises:
          DecodeError, LimitError: With the field's name in the message.
        """
        if len(data) > self.bytes_max:
            raise LimitError(f"{len(data)} bytes, {self.bytes_max} allowed")
        value = self._read(data)
        # Before differences are added up, since the bytes hold differences.
        if self._encode(value) != data:
            raise DecodeError("not in canonical form")
        change = self._added_up
        return value if change is None else change(value)

    def _read(self, data: bytes) -> _T:
        try:
            value = self._decode(data)
        # msgspec's errors are ValueErrors; deep nests of arrays exhaust recursion.
        except (ValueError, RecursionError) as error:
            raise refusal(self.kind, data, error) from error
        if (check := self._text_check) is not None:
            check(value)
        return value

    # Built when first needed: most processes use few of the structures.

    @cached_property
    def _text_check(self) -> Callable[[_T], object] | None:
        return text_check(inspect.type_info(self.kind))

    @cached_property
    def _added_up(self) -> Callable[[_T], _T] | None:
        return added_up(inspect.type_info(self.kind))

    @cached_property
    def _differences(self) -> Callable[[_T], _T] | None:
        return differences(inspect.type_info(self.kind))

    @property
    def _name(self) -> str:
        return str(getattr(self.kind, "__name__", self.kind))


def structure(cls: type[_T], bytes_max: int, *, short: bool = False) -> Codec[_T]:
    """The codec of a structure's class; see `Codec` for `short`."""
    return Codec(cls, bytes_max, short=short)


def _encode_short(value: msgspec.Struct) -> bytes:
    """A structure without those last fields that have their default."""
    cls = type(value)
    names, defaults = cls.__struct_fields__, cls.__struct_defaults__
    values = [getattr(value, name) for name in names]
    for default in reversed(defaults):
        if values[-1] != default:
            break
        values.pop()
    return _encode(values)
