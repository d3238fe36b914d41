"""Refusals name field and bound, and tell a wrong length from a wrong kind."""

from typing import Annotated

import pytest

from starling.protocol.errors import DecodeError, LimitError, ProtocolError
from starling.protocol.schema.msgpack_codec import (
    Structure,
    binary,
    encode,
    many,
    structure,
    text,
    uint,
)


class Pair(Structure, frozen=True):
    left: Annotated[int, uint(100)]
    right: Annotated[bytes, binary(8, 1)]


class Row(Structure, frozen=True):
    pairs: Annotated[tuple[Pair, ...], many(3)]
    names: Annotated[tuple[Annotated[str, text(4)], ...], many(2)] = ()


ROW = structure(Row, 128)
NAMED: dict[str, tuple[object, type[ProtocolError], str]] = {
    "integer": ([[[1, b"a"], [101, b"a"]], []], DecodeError, r"integer in \[0, 100\]"),
    "bytes": ([[[1, b""]], []], LimitError, "0 bytes, 1 to 8 allowed"),
    "fields": ([[[1]], []], DecodeError, "expected 2 fields of Pair"),
    "items": ([4 * [[1, b"a"]], []], LimitError, "4 items, 0 to 3 allowed"),
    "long items": ([17 * [[1, b"a"]], []], LimitError, "17 items, 0 to 3 allowed"),
    "kind": ([[[1, "a"]], []], DecodeError, "expected bytes"),
    "text": ([[], ["\n"]], DecodeError, "expected printable text"),
    "long text": ([[], ["éééé"]], LimitError, "text longer than 4 bytes"),
    "very long text": ([[], ["abcde"]], LimitError, "text longer than 4 bytes"),
}
PLACES = {
    "integer": "Row.pairs: Pair.left: ",
    "bytes": "Row.pairs: Pair.right: ",
    "kind": "Row.pairs: Pair.right: ",
    "text": "Row.names: ",
    "long text": "Row.names: ",
    "very long text": "Row.names: ",
}


@pytest.mark.parametrize(
    ("case", "value", "error", "detail"),
    [(case, *rest) for case, rest in NAMED.items()],
    ids=NAMED,
)
def test_refusal_names_field_and_bound(
    case: str, value: object, error: type[ProtocolError], detail: str
) -> None:
    place = PLACES.get(case, "Row.pairs: ")

    with pytest.raises(error, match=f"^{place}(expected an )?{detail}$") as caught:
        ROW.unpack(encode(value))

    assert type(caught.value) is error


def test_refusal_of_a_long_field_before_damage_still_names_it() -> None:
    damaged = encode([[[1, b"123456789"]], ["a"]])[:-1]

    with pytest.raises(LimitError, match=r"Pair\.right: 1 to 8 allowed"):
        ROW.unpack(damaged)
