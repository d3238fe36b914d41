"""Every structure on the wire has one spelling, and no input breaks its codec."""

import importlib
import pkgutil
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starling import protocol
from starling.protocol.errors import LimitError, ProtocolError
from starling.protocol.schema.msgpack_codec import Codec, encode
from starling.protocol.wire.envelope import ENVELOPE
from tests.contract.wire.widest_values import WIDEST
from tests.contract.wire.wire_values import VALUES, wire_values
from tests.vectors.protocol_structures import STRUCTURES

by_structure = pytest.mark.parametrize(
    ("name", "codec", "example"), STRUCTURES, ids=[each.name for each in STRUCTURES]
)

HOSTILE = {
    "nothing": b"",
    "never used byte": b"\xc1",
    "nil": b"\xc0",
    "true": b"\xc3",
    "empty map": b"\x80",
    "map": b"\x81\x01\x02",
    "map of 2^32 entries": b"\xdf\xff\xff\xff\xff",
    "float32": b"\xca\x3f\x80\x00\x00",
    "float64": b"\xcb" + bytes(8),
    "empty extension": b"\xc7\x00\x05",
    "timestamp": b"\xd6\xff\x00\x00\x00\x00",
    "timestamp without bytes": b"\xc7\x00\xff",
    "extension of 2^32 bytes": b"\xc9\xff\xff\xff\xff\x05",
    "bytes of 2^32": b"\xc6\xff\xff\xff\xff",
    "text of 2^32": b"\xdb\xff\xff\xff\xff",
    "array of 2^32": b"\xdd\xff\xff\xff\xff",
    "array that ends early": b"\x93\x01\x02",
    "invalid UTF-8": b"\xa2\xc3\x28",
    "surrogate in UTF-8": b"\xa3\xed\xa0\x80",
    "control character": b"\xa1\x00",
    "integer above 2^63": b"\xcf" + b"\xff" * 8,
    "integer of -2^63": b"\xd3\x80" + bytes(7),
    "5 as uint8": b"\xcc\x05",
    "5 as uint64": b"\xcf" + bytes(7) + b"\x05",
    "5 as int8": b"\xd0\x05",
    "empty bytes as bin16": b"\xc5\x00\x00",
    "empty array as array16": b"\xdc\x00\x00",
    "two values": b"\x01\x01",
    "nested 9 deep": b"\x91" * 9 + b"\x01",
    "nested 2000 deep": b"\x91" * 2000 + b"\x01",
    "nested 2000 deep, long headers": b"\xdd\x00\x00\x40\x00" * 2000,
    "flood of empty arrays": b"\xdc\xff\xff" + b"\x90" * 65535,
}


def survives(codec: Codec[Any], data: bytes) -> bool:
    """Whether the bytes were taken; they must then be the value's own bytes."""
    try:
        value = codec.unpack(data)
    except ProtocolError:
        return False
    assert codec.pack(value) == data
    return True


def test_structures_are_all_in_the_contract() -> None:
    found = {
        name
        for module in pkgutil.walk_packages(protocol.__path__, "starling.protocol.")
        for name, value in vars(importlib.import_module(module.name)).items()
        if isinstance(value, Codec) and isinstance(value.kind, type)
    }

    assert found == {each.name for each in STRUCTURES} == set(VALUES)


@by_structure
def test_codec_of_the_example_round_trips(
    name: str, codec: Codec[Any], example: object
) -> None:
    del name

    assert codec.unpack(codec.pack(example)) == example


@by_structure
@settings(max_examples=30, deadline=None)
@given(draw=st.data())
def test_codec_of_any_value_round_trips_to_one_spelling(
    name: str, codec: Codec[Any], example: object, draw: st.DataObject
) -> None:
    del example
    value = draw.draw(VALUES[name])

    packed = codec.pack(value)

    assert codec.unpack(packed) == value
    assert codec.pack(codec.unpack(packed)) == packed


@pytest.mark.parametrize("name", WIDEST)
def test_codec_of_the_widest_value_stays_within_its_bytes(name: str) -> None:
    codec = next(each.codec for each in STRUCTURES if each.name == name)

    assert codec.unpack(codec.pack(WIDEST[name])) == WIDEST[name]


@by_structure
def test_codec_of_every_prefix_refuses(
    name: str, codec: Codec[Any], example: object
) -> None:
    del name
    packed = codec.pack(example)

    assert not [n for n in range(len(packed)) if survives(codec, packed[:n])]


@by_structure
@pytest.mark.parametrize("tail", [b"\x00", b"\xc0", b"\x90", b"\xc1"], ids=bytes.hex)
def test_codec_of_a_trailing_byte_refuses(
    name: str, codec: Codec[Any], example: object, tail: bytes
) -> None:
    del name

    assert not survives(codec, codec.pack(example) + tail)


@by_structure
@pytest.mark.parametrize("mask", [0x01, 0x10, 0x80, 0xFF], ids=hex)
def test_codec_of_a_flipped_byte_refuses_or_gives_those_bytes(
    name: str, codec: Codec[Any], example: object, mask: int
) -> None:
    del name
    packed = bytearray(codec.pack(example))

    for place in range(len(packed)):
        packed[place] ^= mask
        survives(codec, bytes(packed))
        packed[place] ^= mask


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_codec_of_hostile_bytes_refuses(hostile: bytes) -> None:
    taken = [each.name for each in STRUCTURES if survives(each.codec, hostile)]

    assert taken == []


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_codec_with_a_hostile_field_refuses_or_gives_those_bytes(
    hostile: bytes,
) -> None:
    for _, codec, example in STRUCTURES:
        fields = msgpack.unpackb(codec.pack(example))
        rest = b"".join(encode(field) for field in fields[1:])
        survives(codec, bytes([0x90 | len(fields)]) + hostile + rest)


@by_structure
@settings(max_examples=30)
@given(draw=st.data())
def test_codec_of_random_values_refuses_or_gives_those_bytes(
    name: str, codec: Codec[Any], example: object, draw: st.DataObject
) -> None:
    del name
    fields = msgpack.unpackb(codec.pack(example))
    place = draw.draw(st.integers(0, len(fields) - 1))
    fields[place] = draw.draw(wire_values())

    survives(codec, encode(fields))


@by_structure
@settings(max_examples=50)
@given(noise=st.binary(max_size=200))
def test_codec_of_noise_refuses(
    name: str, codec: Codec[Any], example: object, noise: bytes
) -> None:
    del name, example

    survives(codec, noise)


@by_structure
def test_codec_of_one_byte_too_many_refuses_by_limit(
    name: str, codec: Codec[Any], example: object
) -> None:
    del name, example

    with pytest.raises(LimitError, match=r"bytes, \d+ allowed"):
        codec.unpack(bytes(codec.bytes_max + 1))


@pytest.mark.parametrize(
    "hostile",
    [
        b"\xdd\x00\x00\x40\x00" * 1000,
        b"\x96" * 5 + b"\x90" * 6000,
        b"\x96" + b"\xdc\x17\x70" + b"\x90" * 6000,
    ],
    ids=["long headers nested", "empty arrays", "long array of empty ones"],
)
def test_decoder_of_small_hostile_bytes_stays_small(hostile: bytes) -> None:
    tracemalloc.start()
    taken = survives(ENVELOPE, hostile)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert not taken
    assert peak_bytes < 16 * len(hostile) + 100_000
