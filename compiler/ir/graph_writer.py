"""Graphs of ONNX from lists of calls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
"""Of every graph written: ONNX Runtime runs it since 1.14, and reductions take their
axes as inputs, so one form serves for all."""
IR_VERSION = 8
"""The file format that came with that operator set."""

Shape = tuple[int | None, ...]
"""See `compiler.ir.graph_builder`."""
Attribute = int | float | str | Sequence[int] | Sequence[float]

_ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


@dataclass
class NodeDraft:
    """A node that is to be written.

    Attributes:
      kind: The operator's name in the default domain.
      inputs: Names of values; an empty one is left out.
      outputs: Names of its results.
      attributes: As the operator defines them.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]


def serialised(
    name: str,
    calls: Sequence[NodeDraft],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, NDArray[np.generic]],
) -> bytes:
    """The model as bytes, the same for the same arguments."""
    used = {item.name for item in outputs}.union(*(call.inputs for call in calls))
    graph = helper.make_graph(
        [_node(call, used) for call in calls],
        name,
        inputs,
        outputs,
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="starling"
    )
    # A bundle is named by the digest of its bytes.
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def value_info(name: str, shape: Shape, dtype: str) -> onnx.ValueInfoProto:
    """An input or output of a graph."""
    sizes = ["n" if size is None else size for size in shape]
    return helper.make_tensor_value_info(name, _ELEMENT_TYPES[dtype], sizes)


def _node(call: NodeDraft, used: set[str]) -> onnx.NodeProto:
    outputs = list(call.outputs)
    # An optional output that nobody reads costs time at each run.
    while call.kind not in ("Split", "TopK") and outputs[-1] not in used:
        outputs.pop()
    attributes = [
        helper.make_attribute(*item) for item in sorted(call.attributes.items())
    ]
    return onnx.NodeProto(
        op_type=call.kind,
        name=outputs[0],
        input=call.inputs,
        output=outputs,
        attribute=attributes,
    )
