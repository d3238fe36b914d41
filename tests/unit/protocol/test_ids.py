"""Ids and how people read them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.errors import DecodeError
from starling.protocol.ids import H, device_from_name, device_id, device_name

NAME = device_name(bytes(range(16)))


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_hash_of_parts_is_blake2b_of_them_joined(parts: list[bytes]) -> None:
    assert H(*parts) == hashlib.blake2b(b"".join(parts), digest_size=32).digest()


def test_device_id_is_half_of_the_first_key_hash() -> None:
    assert device_id(b"k" * 32) == H(b"k" * 32)[:16]


@given(st.binary(min_size=16, max_size=16))
def test_device_name_reads_back(identity: bytes) -> None:
    name = device_name(identity)

    assert device_from_name(name) == identity
    assert len(name) == 26
    assert name.isascii()
    assert name == name.lower()


@pytest.mark.parametrize(
    "name",
    [
        "",
        NAME.upper(),
        NAME[:-1],
        NAME + "a",
        NAME + "=",
        " " + NAME[1:],
        NAME[:-1] + "1",
        NAME[:-1] + "b",
        "ß" * 26,
        "\u0131" + NAME[1:],
        "+" + NAME[1:],
        NAME[:-1] + "\x00",
        "../" + NAME[3:],
        "a" * 1000,
    ],
)
def test_device_name_spelled_otherwise_refuses(name: str) -> None:
    with pytest.raises(DecodeError, match="not a device id"):
        device_from_name(name)


@given(st.text(max_size=30))
def test_device_name_of_any_text_refuses_or_is_the_one(name: str) -> None:
    try:
        identity = device_from_name(name)
    except DecodeError:
        return

    assert device_name(identity) == name
