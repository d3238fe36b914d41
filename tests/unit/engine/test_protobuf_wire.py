"""A wire form that readers may take differently is refused; nothing hides in one."""

from collections.abc import Callable

import pytest

from starling.engine.onnx_reader import read_graph
from starling.protocol.errors import DecodeError
from tests.unit.engine.reader_models import six_node_model
from tests.unit.engine.small_graphs import (
    INT64,
    bytes_field,
    model_bytes,
    number_field,
    varint,
)


@pytest.mark.parametrize("bit", range(32, 64))
def test_field_hidden_in_the_high_bits_of_its_tag_is_refused(bit: int) -> None:
    # Protobuf's own reader keeps 32 bits of a tag: for it the operator is Sub.
    hidden = bytes_field(4, b"Sub", bit)
    body = bytes_field(1, b"x") + bytes_field(2, b"out") + bytes_field(4, b"Add")
    graph = bytes_field(1, body + hidden) + bytes_field(2, b"g")

    with pytest.raises(DecodeError):
        read_graph(model_bytes(graph))


@pytest.mark.parametrize("bit", range(32, 64))
def test_field_with_high_bits_in_its_tag_does_not_count_as_the_field(bit: int) -> None:
    body = bytes_field(1, b"x") + bytes_field(2, b"out") + bytes_field(4, b"Neg", bit)
    graph = bytes_field(1, body) + bytes_field(2, b"g")

    with pytest.raises(DecodeError):
        read_graph(model_bytes(graph))


HIDDEN_ELSEWHERE: dict[str, Callable[[bytes], bytes]] = {
    "model": lambda m: m + bytes_field(25, b"", 33),
    "graph": lambda m: model_bytes(bytes_field(15, b"", 32)),
    "tensor": lambda m: model_bytes(bytes_field(5, bytes_field(13, b"", 40))),
    "attribute": lambda m: model_bytes(
        bytes_field(1, bytes_field(5, bytes_field(6, b"", 50)))
    ),
    "type": lambda m: model_bytes(
        bytes_field(11, bytes_field(2, bytes_field(4, b"", 63)))
    ),
}


@pytest.mark.parametrize("case", HIDDEN_ELSEWHERE)
def test_field_hidden_in_any_message_is_refused(case: str) -> None:
    data = HIDDEN_ELSEWHERE[case](six_node_model().SerializeToString())

    with pytest.raises(DecodeError):
        read_graph(data)


WIRE: dict[str, Callable[[bytes], bytes]] = {
    "number with more bytes than it needs": lambda m: varint(8) + varint(8, 1) + m[2:],
    "tag with more bytes than it needs": lambda m: varint(8, 3) + m[1:],
    "length with more bytes than it needs": lambda m: (
        m + varint(2 << 3 | 2) + varint(1, 2) + b"a"
    ),
    "number of eleven bytes": lambda m: b"\xff" * 11,
    "number beyond 64 bits": lambda m: b"\x08" + b"\xff" * 9 + b"\x02",
    "length beyond the end": lambda m: b"\x3a\xff\xff\xff\xff\x0f",
    "group": lambda m: m + b"\x3b\x3c",
    "end of a group": lambda m: m + b"\x3c",
    "unknown wire type": lambda m: m + b"\x3e",
    "unknown field": lambda m: m + number_field(99, 1),
    "field zero": lambda m: m + b"\x02\x01x",
    "number where a message belongs": lambda m: m + number_field(8, 1),
    "message where a number belongs": lambda m: bytes_field(1, b"\x08") + m[2:],
    "fixed number where a number belongs": lambda m: b"\x0d\x08\0\0\0" + m[2:],
    "cut": lambda m: m[:-1],
    "twice the same model": lambda m: m + m,
    "version twice": lambda m: m + number_field(1, 8),
    "graph twice": lambda m: m + bytes_field(7, b""),
}


@pytest.mark.parametrize("case", WIRE)
def test_wire_form_that_readers_may_take_differently_is_refused(case: str) -> None:
    data = WIRE[case](six_node_model().SerializeToString())

    with pytest.raises(DecodeError):
        read_graph(data)


def test_packed_numbers_are_refused() -> None:
    # `dims` is written unpacked; protobuf's own reader takes both.
    tensor = bytes_field(1, varint(1)) + number_field(2, INT64) + bytes_field(8, b"t")
    graph = bytes_field(5, tensor + bytes_field(9, bytes(8)))

    with pytest.raises(DecodeError, match="wire type"):
        read_graph(model_bytes(graph))
