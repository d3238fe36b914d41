"""Parts of an ONNX graph, between reading and writing.

There is no place in these types for what ONNX allows and nobody here runs: subgraphs,
functions, other domains, tensors in other files, strings, sparse or optional values.
"""

import math
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

OPSET_MIN, OPSET_MAX = 13, 21
"""Operator sets that are run; what is known of operators holds in all of them."""


class ElementType(IntEnum):
    """Element type of a tensor; the numbers are `TensorProto.DataType`."""

    FLOAT32 = 1
    INT32 = 6
    INT64 = 7
    BOOL = 9

    @property
    def width(self) -> int:
        """Bytes of one value."""
        return {ElementType.BOOL: 1, ElementType.INT64: 8}.get(self, 4)

    @property
    def whole(self) -> bool:
        """True for integer types."""
        return self in (ElementType.INT32, ElementType.INT64)


Attribute = int | float | str | tuple[int, ...]
"""INT, FLOAT, STRING or INTS of ONNX."""


@dataclass(frozen=True)
class ConstantTensor:
    """A constant of the graph.

    Attributes:
      name: Of the value.
      type: Of its entries.
      shape: Not negative.
      raw: Its entries, little-endian, row by row; exactly as many as the shape has.
    """

    name: str
    type: ElementType
    shape: tuple[int, ...]
    raw: bytes | memoryview

    def integers(self) -> tuple[int, ...]:
        """Its entries, if they are whole numbers; reads all of them."""
        assert self.type.whole
        letter = "i" if self.type is ElementType.INT32 else "q"
        return struct.unpack(f"<{size(self.shape)}{letter}", self.raw)

    def is_positive(self) -> bool:
        """True if all entries of an integer tensor are above zero."""
        assert self.type.whole
        # As an array, since constants may be long: `integers` makes a Python number of
        # each entry.
        kind = "<i4" if self.type is ElementType.INT32 else "<i8"
        return bool((np.frombuffer(self.raw, kind) > 0).all())


@dataclass(frozen=True)
class GraphPort:
    """An input or output of the graph.

    Attributes:
      name: Of the value.
      type: Of its entries.
      shape: Sizes, or names of sizes that a caller chooses; None leaves the rank open.
    """

    name: str
    type: ElementType
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True)
class GraphNode:
    """A call of an operator of the default domain.

    Attributes:
      operator: Its name.
      name: For people.
      inputs: Names of values; "" for an optional one that is left out.
      outputs: Names of values; "" for an optional one that nobody reads.
      attributes: By name, in the order in which they were written.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True)
class Graph:
    """A whole model.

    Attributes:
      name: Of the graph.
      ir_version: Of the file format.
      opset: Version of the default operator set.
      nodes: In an order in which they can be run.
      tensors: Its constants.
      inputs: What a caller gives.
      outputs: What a caller gets.
    """

    name: str
    ir_version: int
    opset: int
    nodes: tuple[GraphNode, ...]
    tensors: tuple[ConstantTensor, ...]
    inputs: tuple[GraphPort, ...]
    outputs: tuple[GraphPort, ...]

    @property
    def operators(self) -> dict[str, int]:
        """Operator to how many nodes call it, sorted."""
        return dict(sorted(Counter([node.operator for node in self.nodes]).items()))


def size(shape: tuple[int, ...]) -> int:
    """Number of values that a shape has."""
    return math.prod(shape)
