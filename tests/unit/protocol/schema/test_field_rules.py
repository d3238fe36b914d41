"""Texts are printable, and integers from the first are differences in the bytes."""

from typing import Annotated

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.errors import DecodeError, ProtocolError
from starling.protocol.schema.msgpack_codec import (
    UINT_MAX,
    Difference,
    Structure,
    from_first,
    many,
    structure,
    text,
)


class Moments(Structure, frozen=True):
    times: Annotated[tuple[Difference, ...], from_first(2)]
    name: Annotated[str, text(4)] = ""


MOMENTS = structure(Moments, 64)


@pytest.mark.parametrize(
    "times", [(), (1, 2, 3), (1, -1), (-1, 1), (1 << 63,)], ids=str
)
def test_pack_of_integers_from_the_first_out_of_bounds_refuses(
    times: tuple[int, ...],
) -> None:
    with pytest.raises(ProtocolError):
        MOMENTS.pack(Moments(times))


def test_integers_from_the_first_are_differences_in_the_bytes_alone() -> None:
    moments = Moments((1000, 998), "a")

    packed = MOMENTS.pack(moments)

    assert msgpack.unpackb(packed) == [[1000, -2], "a"]
    assert MOMENTS.unpack(packed) == moments


def test_pack_of_a_text_that_nobody_may_print_refuses() -> None:
    with pytest.raises(DecodeError, match=r"Moments\.name: expected printable text"):
        MOMENTS.pack(Moments((1,), "\x1b"))


class Nested(Structure, frozen=True):
    moments: Annotated[tuple[Moments, ...], many(2)]
    last: Moments | None = None


NESTED = structure(Nested, 256)
times = st.lists(st.integers(0, UINT_MAX), min_size=1, max_size=2).map(tuple)


@given(times, times)
def test_nested_integers_from_the_first_come_back(
    one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    value = Nested((Moments(one, "\u00e9"), Moments(other)), Moments(one))

    assert NESTED.unpack(NESTED.pack(value)) == value


def test_nested_integer_out_of_bounds_is_named() -> None:
    place = r"Nested\.moments: Moments\.times: expected integers in"

    with pytest.raises(DecodeError, match=place):
        NESTED.unpack(msgpack.packb([[[[3, -4], ""]], None]))


def test_nested_text_is_named() -> None:
    place = r"Nested\.last: Moments\.name: expected printable text"

    with pytest.raises(DecodeError, match=place):
        NESTED.unpack(msgpack.packb([[], [[3], "\n"]]))
