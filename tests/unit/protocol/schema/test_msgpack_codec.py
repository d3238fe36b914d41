"""The canonical encoding, and the schemas that check every field."""

from dataclasses import dataclass
from enum import IntEnum

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.errors import DecodeError, LimitError, ProtocolError, Reason
from starling.protocol.schema.msgpack_codec import (
    DEPTH_MAX,
    UINT_MAX,
    Schema,
    binary,
    decode,
    encode,
    exactly,
    from_first,
    many,
    maybe,
    record,
    structure,
    text,
    uint,
)
from tests.contract.wire.wire_values import wire_values


class Colour(IntEnum):
    RED = 1


@dataclass(frozen=True)
class Pair:
    left: int
    right: bytes

    def __post_init__(self) -> None:
        if self.left == 13:
            raise DecodeError("unlucky", Reason.BUSY)


PAIR = structure(Pair, 20, uint(100), binary(8, 1))


@given(wire_values())
def test_decode_of_an_encoded_value_gives_it_back(value: object) -> None:
    assert decode(encode(value), 1 << 16) == value


@given(st.binary(max_size=64))
def test_decode_of_noise_refuses_or_gives_one_spelling(noise: bytes) -> None:
    try:
        value = decode(noise, 64)
    except ProtocolError:
        return

    assert encode(value) == noise


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


def test_decode_of_an_integer_beyond_63_bits_refuses() -> None:
    with pytest.raises(DecodeError, match="64 bits"):
        decode(msgpack.packb(UINT_MAX + 1), 16)


@pytest.mark.parametrize(
    ("depth", "taken"), [(DEPTH_MAX, True), (DEPTH_MAX + 1, False), (1500, False)]
)
def test_decode_of_nested_arrays_has_a_limit(depth: int, taken: bool) -> None:
    nested = b"\x91" * depth + b"\x05"

    if taken:
        assert encode(decode(nested, 2000)) == nested
    else:
        with pytest.raises(DecodeError):
            decode(nested, 2000)


@pytest.mark.parametrize(
    ("items_max", "arrays_max", "taken"),
    [(3, 4, True), (2, 4, False), (3, 3, False)],
)
def test_decode_beyond_items_or_arrays_refuses(
    items_max: int, arrays_max: int, taken: bool
) -> None:
    packed = encode([[], [], [1, 2, 3]])

    if taken:
        assert decode(packed, 64, items_max, arrays_max) == [[], [], [1, 2, 3]]
    else:
        with pytest.raises(ProtocolError):
            decode(packed, 64, items_max, arrays_max)


REFUSED: dict[str, tuple[Schema, object]] = {
    "integer too large": (uint(5), 6),
    "integer too small": (uint(5, 2), 1),
    "negative integer": (uint(), -1),
    "bytes for an integer": (uint(), b"5"),
    "true for an integer": (uint(), True),
    "bytes too long": (binary(2), b"abc"),
    "bytes too short": (binary(2, 1), b""),
    "text for bytes": (binary(2), "a"),
    "digest too short": (exactly(32), bytes(31)),
    "text too long": (text(3), "abcd"),
    "text too long in UTF-8": (text(3), "éé"),
    "text with a line break": (text(9), "a\nb"),
    "text with an escape": (text(9), "\x1b[2J"),
    "text that turns its direction": (text(9), "\u202eabc"),
    "text with half a surrogate pair": (text(9), "\ud800"),
    "bytes for text": (text(9), b"abc"),
    "nil for a value": (uint(), None),
    "wrong kind for an optional value": (maybe(uint()), b""),
    "too many items": (many(uint(), 2), [1, 2, 3]),
    "too few items": (many(uint(), 2, 1), []),
    "wrong item": (many(uint(5), 2), [1, 6]),
    "integer for items": (many(uint(5), 2), 1),
    "missing field": (record(Pair, uint(), binary(9)), [1]),
    "one field more": (record(Pair, uint(), binary(9)), [1, b"", 1]),
    "bytes for a record": (record(Pair, uint(), binary(9)), b"ab"),
}


@pytest.mark.parametrize(("schema", "value"), REFUSED.values(), ids=REFUSED)
def test_schema_of_a_wrong_value_refuses(schema: Schema, value: object) -> None:
    with pytest.raises((DecodeError, LimitError)):
        schema.build(value)


def test_structure_with_a_wrong_field_names_it() -> None:
    with pytest.raises(LimitError, match=r"Pair\.right: 9 bytes, 1 to 8 allowed"):
        PAIR.unpack(encode([1, b"123456789"]))


@dataclass(frozen=True)
class Outer:
    pair: Pair


def test_structure_that_refuses_itself_keeps_the_reason_when_nested() -> None:
    outer = structure(Outer, 64, PAIR.schema)

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


@dataclass(frozen=True)
class Moments:
    times: tuple[int, ...]


@pytest.mark.parametrize("times", [(), (1, 2, 3), (1, -1), (-1, 1), (101,)], ids=str)
def test_pack_of_integers_from_the_first_out_of_bounds_refuses(
    times: tuple[int, ...],
) -> None:
    codec = structure(Moments, 64, from_first(uint(100), 2))

    with pytest.raises(ProtocolError):
        codec.pack(Moments(times))


def test_pack_of_an_enumeration_writes_its_number() -> None:
    assert PAIR.pack(Pair(Colour.RED, b"a")) == PAIR.pack(Pair(1, b"a"))


def test_pack_of_a_float_for_an_integer_is_a_bug() -> None:
    with pytest.raises(TypeError):
        uint().dump(1.5)


def test_unpack_of_too_many_bytes_refuses_before_decoding() -> None:
    with pytest.raises(LimitError, match="21 bytes, 20 allowed"):
        PAIR.unpack(b"\xc1" * 21)
