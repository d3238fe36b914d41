"""Small graphs, and the wire format written by hand, for what no library writes."""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node
value = helper.make_tensor_value_info


def varint(number: int, padding: int = 0) -> bytes:
    """A number; `padding` more bytes than it needs."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    for _ in range(padding):
        found[-1] |= 0x80
        found.append(0)
    return bytes(found)


def number_field(number: int, content: int, bit: int | None = None) -> bytes:
    return varint(_tag(number, 0, bit)) + varint(content)


def bytes_field(number: int, content: bytes, bit: int | None = None) -> bytes:
    return varint(_tag(number, 2, bit)) + varint(len(content)) + content


def _tag(number: int, wire: int, bit: int | None) -> int:
    return number << 3 | wire | (0 if bit is None else 1 << bit)


def made(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, NDArray[np.generic]] | None = None,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
) -> onnx.ModelProto:
    """A graph of theta (4,), x (n, 4) and y (n,), unless said otherwise."""
    if inputs is None:
        inputs = [
            value("theta", FLOAT, [4]),
            value("x", FLOAT, ["n", 4]),
            value("y", INT64, ["n"]),
        ]
    graph = helper.make_graph(
        list(nodes),
        "g",
        list(inputs),
        [value("out", FLOAT, ["k"])] if outputs is None else list(outputs),
        [numpy_helper.from_array(array, k) for k, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def whole(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, np.int64)


def model_bytes(graph: bytes, opset: int = 18) -> bytes:
    """A model around a graph that was written by hand."""
    entry = bytes_field(1, b"") + number_field(2, opset)
    return number_field(1, 8) + bytes_field(7, graph) + bytes_field(8, entry)
