"""The canonical encoding, and the structures that check every field."""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import fields, replace
from enum import IntEnum
from typing import Annotated, Any, cast

import msgpack
import numpy as np
import pytest
from hypothesis import given
from msgspec import inspect

import starling.agent
import starling.coordinator
import starling.protocol
from starling.protocol.errors import DecodeError, LimitError, ProtocolError, Reason
from starling.protocol.schema.msgpack_codec import (
    DEPTH_MAX,
    UINT_MAX,
    Codec,
    Structure,
    Uint,
    binary,
    encode,
    exactly,
    many,
    structure,
    text,
    uint,
)
from tests.contract.wire.wire_values import wire_values


class Colour(IntEnum):
    RED = 1


class Pair(Structure, frozen=True):
    left: Annotated[int, uint(100)]
    right: Annotated[bytes, binary(8, 1)]

    def __post_init__(self) -> None:
        if self.left == 13:
            raise DecodeError("unlucky", Reason.BUSY)


PAIR = structure(Pair, 20)


@given(wire_values())
def test_encode_gives_the_bytes_of_another_library(value: object) -> None:
    assert encode(value) == msgpack.packb(value)


@pytest.mark.parametrize(
    "value",
    [1.0, True, False, {}, {1: 2}, {1}, bytearray(b"a"), Colour.RED, 1j, [[1.5]]],
    ids=repr,
)
def test_encode_of_what_the_wire_cannot_carry_refuses(value: object) -> None:
    with pytest.raises(DecodeError, match="cannot stand on the wire"):
        encode(value)


@pytest.mark.parametrize("value", [UINT_MAX + 1, -(1 << 63) - 1, 1 << 200])
def test_encode_of_an_integer_beyond_64_bits_refuses(value: int) -> None:
    with pytest.raises(DecodeError, match="64 bits"):
        encode([value])


@pytest.mark.parametrize(
    ("depth", "taken"), [(DEPTH_MAX, True), (DEPTH_MAX + 1, False)]
)
def test_encode_of_nested_arrays_has_a_limit(depth: int, taken: bool) -> None:
    nested: object = 5
    for _ in range(depth):
        nested = [nested]

    if taken:
        assert encode(nested) == b"\x91" * depth + b"\x05"
    else:
        with pytest.raises(DecodeError):
            encode(nested)


Word = Annotated[str, text(9)]
REFUSED: dict[str, tuple[Any, object]] = {
    "integer too large": (Annotated[int, uint(5)], 6),
    "integer too small": (Annotated[int, uint(5, 2)], 1),
    "negative integer": (Uint, -1),
    "integer beyond 63 bits": (Uint, UINT_MAX + 1),
    "bytes for an integer": (Uint, b"5"),
    "true for an integer": (Uint, True),
    "float for an integer": (Uint, 5.0),
    "bytes too long": (Annotated[bytes, binary(2)], b"abc"),
    "bytes too short": (Annotated[bytes, binary(2, 1)], b""),
    "text for bytes": (Annotated[bytes, binary(2)], "a"),
    "digest too short": (Annotated[bytes, exactly(32)], bytes(31)),
    "text too long": (Annotated[str, text(3)], "abcd"),
    "text too long in UTF-8": (Annotated[str, text(3)], "éé"),
    "text with a line break": (Word, "a\nb"),
    "text with an escape": (Word, "\x1b[2J"),
    "text that turns its direction": (Word, "\u202eabc"),
    "text with half a surrogate pair": (Word, "\ud800"),
    "bytes for text": (Word, b"abc"),
    "nil for a value": (Uint, None),
    "wrong kind for an optional value": (Uint | None, b""),
    "wrong text for an optional value": (Word | None, "a\nb"),
    "too many items": (Annotated[tuple[Uint, ...], many(2)], [1, 2, 3]),
    "too few items": (Annotated[tuple[Uint, ...], many(2, 1)], []),
    "wrong item": (Annotated[tuple[Annotated[int, uint(5)], ...], many(2)], [1, 6]),
    "wrong text among items": (Annotated[tuple[Word, ...], many(2)], ["a", "\n"]),
    "integer for items": (Annotated[tuple[Uint, ...], many(2)], 1),
    "wrong text in a row": (tuple[Word, Uint], ["\n", 1]),
    "missing field": (Pair, [1]),
    "one field more": (Pair, [1, b"a", 1]),
    "bytes for a record": (Pair, b"ab"),
}


@pytest.mark.parametrize(("kind", "value"), REFUSED.values(), ids=REFUSED)
def test_codec_of_a_wrong_value_refuses(kind: type[object], value: object) -> None:
    packed = msgpack.packb(value, unicode_errors="surrogatepass")

    with pytest.raises((DecodeError, LimitError)):
        Codec(kind, 64).unpack(packed)


def test_structure_with_a_wrong_field_names_it() -> None:
    with pytest.raises(LimitError, match=r"Pair\.right: 9 bytes, 1 to 8 allowed"):
        PAIR.unpack(encode([1, b"123456789"]))


class Outer(Structure, frozen=True):
    pair: Pair


def test_structure_that_refuses_itself_keeps_the_reason_when_nested() -> None:
    outer = structure(Outer, 64)

    with pytest.raises(DecodeError, match=r"Outer\.pair: unlucky") as caught:
        outer.unpack(encode([[13, b"a"]]))

    assert caught.value.reason is Reason.BUSY


@pytest.mark.parametrize(
    ("value", "error"),
    [(Pair(101, b"a"), DecodeError), (Pair(1, b""), LimitError)],
    ids=["integer", "bytes"],
)
def test_pack_of_a_field_out_of_bounds_refuses(
    value: Pair, error: type[ProtocolError]
) -> None:
    with pytest.raises(error):
        PAIR.pack(value)


def test_pack_of_an_enumeration_writes_its_number() -> None:
    assert PAIR.pack(Pair(Colour.RED, b"a")) == PAIR.pack(Pair(1, b"a"))


def test_pack_of_an_integer_of_numpy_writes_its_number() -> None:
    number = cast("int", np.int64(7))

    assert PAIR.pack(Pair(number, b"a")) == PAIR.pack(Pair(7, b"a"))


@pytest.mark.parametrize(
    "wrong",
    [1.5, True, "1", None, 1 << 80, object()],
    ids=["float", "bool", "text", "nil", "81 bits", "object"],
)
def test_pack_of_what_is_no_integer_is_a_bug(wrong: int) -> None:
    with pytest.raises(DecodeError):
        PAIR.pack(Pair(wrong, b"a"))


def test_unpack_of_too_many_bytes_refuses_before_decoding() -> None:
    with pytest.raises(LimitError, match="21 bytes, 20 allowed"):
        PAIR.unpack(b"\xc1" * 21)


def test_structure_is_a_dataclass_to_those_who_ask() -> None:
    pair = Pair(1, b"a")

    assert [field.name for field in fields(pair)] == ["left", "right"]
    assert replace(pair, left=2) == Pair(2, b"a")


def bounds(kind: inspect.Type) -> list[int | float | None]:
    """The bounds of one type; None for one that is missing."""
    match kind:
        case inspect.IntType(ge=least, le=most):
            return [least, most]
        case inspect.BytesType(max_length=length) | inspect.StrType(max_length=length):
            return [length]
        case inspect.VarTupleType(max_length=length):
            return [length]
        case _:
            return []


def parts(kind: inspect.Type) -> list[inspect.Type]:
    """The types that a type consists of."""
    match kind:
        case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner):
            return [inner]
        case inspect.TupleType(item_types=types) | inspect.UnionType(types=types):
            return list(types)
        case inspect.StructType(fields=inner_fields):
            return [field.type for field in inner_fields]
        case _:
            finite = inspect.NoneType | inspect.BoolType | inspect.EnumType
            assert bounds(kind) or isinstance(kind, finite)
            return []


class Grown(Structure, frozen=True):
    left: Annotated[int, uint(100)]
    added: Annotated[int, uint(100)] = 7
    last: Annotated[int, uint(100)] = 9


def test_last_fields_with_their_default_are_left_out_of_a_short_form() -> None:
    short = structure(Grown, 20, short=True)
    assert short.pack(Grown(1)) == encode([1])
    assert short.pack(Grown(1, 8)) == encode([1, 8])
    assert short.pack(Grown(1, 7, 8)) == encode([1, 7, 8])
    for value in (Grown(1), Grown(1, 8), Grown(1, 7, 8)):
        assert short.unpack(short.pack(value)) == value
    with pytest.raises(DecodeError, match="canonical"):
        short.unpack(encode([1, 7]))


def unbounded(kind: inspect.Type) -> Iterator[inspect.Type]:
    """Types without a bound among those that a type consists of."""
    if None in bounds(kind):
        yield kind
    for part in parts(kind):
        yield from unbounded(part)


def codecs() -> Iterator[Codec[Any]]:
    for package in (starling.protocol, starling.agent, starling.coordinator):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name.endswith("__main__"):
                continue
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, Codec):
                    yield value


def test_every_field_of_every_codec_has_a_bound() -> None:
    kinds = {str(codec.kind): codec.kind for codec in codecs()}

    found = {
        name: list(unbounded(inspect.type_info(kind))) for name, kind in kinds.items()
    }

    assert len(found) > 80
    assert {name: kinds for name, kinds in found.items() if kinds} == {}
