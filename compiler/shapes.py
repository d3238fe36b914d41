"""Finds the shape of every value, and where the batch axis is.

ONNX's own shape inference runs twice, with two batch sizes that divide nothing else.
What differs between the two depends on the batch; it may only be the first axis, and
must be the batch itself.
"""

from collections.abc import Mapping, Sequence

import onnx
from onnx.shape_inference import InferenceError, infer_shapes

from compiler.builder import Shape
from compiler.errors import CompileError
from compiler.network import Node

_BATCHES = (7919, 7907)
"""Primes, so that no product of other sizes is mistaken for a batch."""


def infer(
    proto: onnx.ModelProto, entry: onnx.ValueInfoProto, nodes: Sequence[Node]
) -> dict[str, Shape]:
    """Shapes of what nodes read and write, with None for the batch axis.

    Args:
      proto: A checked model.
      entry: Its only input; the first axis becomes the batch, whatever size the file
        gives it.
      nodes: That matter; shapes of other values are left out.

    Raises:
      CompileError: If a shape cannot be found or depends on the batch elsewhere.
    """
    first, second = [_with_batch(proto, entry, size) for size in _BATCHES]
    shapes: dict[str, Shape] = {}
    for node in nodes:
        for name in (*node.inputs, *node.outputs):
            if name and name in first:
                shapes[name] = _merge(name, first[name], second.get(name))
        unknown = [name for name in node.outputs[:1] if name not in shapes]
        if unknown:
            raise CompileError(
                f"{node.label}: its output has no known shape; export the model with "
                "fixed sizes but for the batch",
                (node.name,),
            )
    return shapes


def _with_batch(
    proto: onnx.ModelProto, entry: onnx.ValueInfoProto, batch: int
) -> Mapping[str, tuple[int, ...]]:
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    graph = model.graph
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    for item in graph.input:
        if item.name == entry.name:
            _set_batch(item, batch)
    try:
        inferred = infer_shapes(model, strict_mode=True, data_prop=True)
    # A message that quotes what is not UTF-8 raises a ValueError of its own.
    except (InferenceError, ValueError) as error:
        line = " ".join(str(error).split())[:300]
        raise CompileError(
            "the batch has a fixed size inside the model; export it with a dynamic "
            f"batch axis: {line}"
        ) from error
    found = {item.name: tuple(item.dims) for item in graph.initializer}
    graph = inferred.graph
    for info in (*graph.input, *graph.value_info, *graph.output):
        sizes = info.type.tensor_type.shape.dim
        known = info.type.tensor_type.HasField("shape")
        if known and all(size.HasField("dim_value") for size in sizes):
            found[info.name] = tuple([size.dim_value for size in sizes])
    return found


def _set_batch(item: onnx.ValueInfoProto, batch: int) -> None:
    sizes = item.type.tensor_type.shape.dim
    if item.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise CompileError(f"input {item.name!r}: expected float32")
    if not sizes:
        raise CompileError(f"input {item.name!r}: has no batch axis")
    for size in sizes[1:]:
        if not size.HasField("dim_value") or size.dim_value < 1:
            raise CompileError(
                f"input {item.name!r}: an axis other than the first has no fixed size"
            )
    sizes[0].dim_value = batch


def _merge(name: str, first: tuple[int, ...], second: tuple[int, ...] | None) -> Shape:
    if first == second:
        return first
    if second is None or (first[0], second[0]) != _BATCHES or first[1:] != second[1:]:
        raise CompileError(
            f"{name}: its shape depends on the batch elsewhere than in the first axis"
        )
    return (None, *first[1:])
