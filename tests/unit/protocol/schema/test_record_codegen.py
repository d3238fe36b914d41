"""What the written-out code of a record does, beside the obvious loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.errors import DecodeError, LimitError
from starling.protocol.schema.msgpack_codec import Schema, binary, many, maybe, uint
from starling.protocol.schema.record_codegen import (
    RecordField,
    straight_build,
    straight_dump,
)


@dataclass(frozen=True)
class Parcel:
    weight: int
    label: bytes
    stamps: tuple[int, ...]
    note: bytes | None

    def __post_init__(self) -> None:
        if self.weight == 7:
            raise DecodeError("nothing weighs 7")


SCHEMAS = (uint(9), binary(3, 1), many(uint(2), 2), maybe(binary(2)))
FIELDS = [RecordField(one.test, one.build, one.dump) for one in SCHEMAS]


def outcome(function: Callable[[Any], Any], value: object) -> object:
    try:
        return function(value)
    except (DecodeError, LimitError) as error:
        return type(error), str(error)


def build_carefully(value: object) -> Parcel:
    if not isinstance(value, list) or len(value) != len(SCHEMAS):
        raise DecodeError("expected 4 fields")
    pairs: list[tuple[Schema, Any]] = list(zip(SCHEMAS, value, strict=True))
    return Parcel(*[schema.build(item) for schema, item in pairs])


def dump_carefully(parcel: Parcel) -> list[Any]:
    pairs = zip(SCHEMAS, vars(parcel).values(), strict=True)
    return [schema.dump(item) for schema, item in pairs]


items = st.one_of(
    st.integers(-1, 10),
    st.binary(max_size=4),
    st.none(),
    st.booleans(),
    st.lists(st.integers(0, 3), max_size=3),
)
right = st.tuples(
    st.integers(0, 9),
    st.binary(min_size=1, max_size=3),
    st.lists(st.integers(0, 2), max_size=2),
    st.one_of(st.none(), st.binary(max_size=2)),
).map(list)


@given(st.one_of(st.lists(items, max_size=5), right, items))
def test_build_does_what_the_loop_does(value: object) -> None:
    build = straight_build(Parcel, FIELDS, build_carefully)

    assert outcome(build, value) == outcome(build_carefully, value)


@given(st.tuples(items, items, items, items))
def test_dump_does_what_the_loop_does(values: tuple[Any, ...]) -> None:
    parcel = object.__new__(Parcel)
    names = ("weight", "label", "stamps", "note")
    vars(parcel).update(zip(names, values, strict=True))
    dump = straight_dump(Parcel, FIELDS, dump_carefully)

    try:
        wanted = outcome(dump_carefully, parcel)
    except TypeError:
        with pytest.raises(TypeError):
            dump(parcel)
    else:
        assert outcome(dump, parcel) == wanted


@given(right.filter(lambda value: value[0] != 7))
def test_what_is_right_takes_no_detour(value: list[Any]) -> None:
    def unwanted(value: object) -> object:
        pytest.fail(f"took the careful way with {value}")

    build = straight_build(Parcel, FIELDS, unwanted)
    dump = straight_dump(Parcel, FIELDS, unwanted)

    assert dump(build(value)) == value
