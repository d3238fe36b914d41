"""Turns models of other precisions into float32, which boards compute in.

float64 comes from NumPy and scikit-learn, float16, bfloat16 and floats of 8 and 4 bits
from exporters that save room. Weights, constants, casts and the types of inputs and
outputs are converted; numbers beyond float32, such as a mask of -1.8e308, become its
largest.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from starling.compiler.ir.network import Array

_OTHER_NAMES = (
    "BFLOAT16 DOUBLE FLOAT16 FLOAT4E2M1 FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 "
    "FLOAT8E5M2FNUZ FLOAT8E8M0"
)
_OTHERS = frozenset([TensorProto.DataType.Value(name) for name in _OTHER_NAMES.split()])
FLOATS = _OTHERS | {TensorProto.FLOAT}
"""Element types of real numbers."""
_ROUNDING = frozenset({"round_mode", "saturate"})
"""Attributes of a cast to few bits, which mean nothing for float32."""
_SMALL = frozenset(
    {TensorProto.INT8, TensorProto.INT16, TensorProto.UINT8, TensorProto.UINT16}
)
"""Whole numbers that boards feed as others, where the model casts them first."""
_TYPED = frozenset({"dtype", "to"})
"""Attributes that name an element type."""


def single(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The same model in float32, and which other types it had.

    Args:
      proto: A checked model, which is not changed.
    """
    kinds = {tensor.data_type for tensor in _tensors(proto)} | {
        info.type.tensor_type.elem_type
        for info in (*proto.graph.input, *proto.graph.output)
    }
    kinds |= {
        attribute.i
        for node in proto.graph.node
        for attribute in node.attribute
        if attribute.name in _TYPED
    }
    others = sorted(kinds & _OTHERS)
    if not others and not kinds & _SMALL:
        return proto, ()
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    graph = found.graph
    _widen_inputs(graph)
    # What is known of values in between holds other types; it is inferred anew.
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.tensor_type.elem_type in _OTHERS:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    for tensor in _tensors(found):
        if tensor.data_type in _OTHERS:
            array = _narrow(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in _TYPED and attribute.i in _OTHERS:
                attribute.i = TensorProto.FLOAT
        if node.op_type == "Cast":
            kept = [a for a in node.attribute if a.name not in _ROUNDING]
            del node.attribute[:]
            node.attribute.extend(kept)
    return found, tuple([TensorProto.DataType.Name(kind).lower() for kind in others])


def _widen_inputs(graph: onnx.GraphProto) -> None:
    """Makes small whole numbers larger ones where the model casts them first."""
    for info in graph.input:
        # Only if a Cast is the sole reader: any other operator may mean the narrow
        # type, and wrap.
        small = info.type.tensor_type.elem_type in _SMALL
        readers = {node.op_type for node in graph.node if info.name in node.input}
        if small and readers == {"Cast"}:
            info.type.tensor_type.elem_type = TensorProto.INT32


def _tensors(proto: onnx.ModelProto) -> Iterator[TensorProto]:
    yield from proto.graph.initializer
    for node in proto.graph.node:
        yield from [item.t for item in node.attribute if item.HasField("t")]


def _narrow(array: Array) -> Array:
    wide = array.astype(np.float64)
    most = float(np.finfo(np.float32).max)
    finite = np.isfinite(wide)
    # Infinite masks stay infinite; only finite numbers beyond float32 would turn into
    # infinity by the cast.
    return np.where(finite, np.clip(wide, -most, most), wide).astype(np.float32)
