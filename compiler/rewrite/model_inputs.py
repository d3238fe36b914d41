"""Inputs of a model: one tensor, or several that become one row.

A bundle has one input x. The inputs of a model that has several are laid out one
behind the other in a flat row, in the order of the model, and the graphs take them
apart again.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from starling.compiler.errors import CompileError
from starling.protocol.model.lookup_table import TABLES_MAX, LookupTable

_ROW = "inputs"
_KINDS = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
_PROBES = 61
"""Examples with which it is tried out what is looked up; a batch that no axis has."""
_NODES_MAX = 64
"""Between x and a lookup; more is a computation, not a way to move tokens."""
_VALUES_MAX = 1 << 16


def inputs(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs of a model, without those that only name an initialiser."""
    known = {item.name for item in proto.graph.initializer}
    return [item for item in proto.graph.input if item.name not in known]


def joined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with one input.

    Args:
      proto: A checked model, which is not changed.

    Raises:
      CompileError: If there is no input, one has no fixed size but for the batch, or
        one holds another number of examples than the first.
    """
    entries = inputs(proto)
    if not entries:
        raise CompileError("the model has no input")
    for entry in entries:
        _check(entry)
    if len(entries) == 1:
        return proto
    _check_batches(entries)
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    graph, nodes, start = found.graph, [], 0
    for entry in entries:
        size = math.prod(row(entry))
        nodes += _taken(graph, entry, start, start + size)
        start += size
    nodes += proto.graph.node
    del graph.input[:], graph.node[:]
    graph.node.extend(nodes)
    graph.input.append(
        helper.make_tensor_value_info(_ROW, TensorProto.FLOAT, ["n", start])
    )
    return found


def row(entry: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The shape of one example."""
    return tuple([size.dim_value for size in entry.type.tensor_type.shape.dim[1:]])


def _check(entry: onnx.ValueInfoProto) -> None:
    sizes = entry.type.tensor_type.shape.dim
    kind = entry.type.tensor_type.elem_type
    if kind == TensorProto.STRING:
        raise CompileError(
            f"input {entry.name!r}: is text, which boards do not read; turn it into "
            "whole numbers before the model and export it again"
        )
    if kind not in _KINDS:
        name = TensorProto.DataType.Name(kind).lower()
        raise CompileError(
            f"input {entry.name!r}: is {name}; boards feed float32, whole numbers and "
            "truth values, which the model may cast"
        )
    if not sizes:
        raise CompileError(
            f"input {entry.name!r}: has no batch axis, or the file does not say its "
            "shape; export it with one"
        )
    for axis, size in enumerate(sizes[1:], 1):
        if not size.HasField("dim_value") or size.dim_value < 1:
            raise CompileError(
                f"input {entry.name!r}: axis {axis} has no fixed size. Only the first "
                "axis may be free, as it holds the batch; where the batch stands "
                "elsewhere, turn the input round at the start of the model "
                "(batch_first in PyTorch)"
            )


def _check_batches(entries: Sequence[onnx.ValueInfoProto]) -> None:
    # Of an axis that is free protobuf says 0.
    held = [
        entry.type.tensor_type.shape.dim[0].dim_value or "any number of"
        for entry in entries
    ]
    for entry, count in zip(entries, held, strict=True):
        if count != held[0]:
            raise CompileError(
                f"input {entry.name!r}: holds {count} examples, {entries[0].name!r} "
                f"{held[0]}. If it is a number of the model, its exporter left it out "
                "of the file (as Keras does with what a Normalization has adapted to): "
                "normalise before the model, or make it an initializer"
            )


def _taken(
    graph: onnx.GraphProto, entry: onnx.ValueInfoProto, start: int, stop: int
) -> list[onnx.NodeProto]:
    """Nodes that take one input out of the row."""
    name, kind = entry.name, entry.type.tensor_type.elem_type
    numbers = {
        "start": [start],
        "stop": [stop],
        "axis": [1],
        "shape": [-1, *row(entry)],
    }
    for key, value in numbers.items():
        array = np.array(value, np.int64)
        graph.initializer.append(numpy_helper.from_array(array, f"{name}/{key}"))
    bounds = [f"{name}/{key}" for key in ("start", "stop", "axis")]
    nodes = [
        helper.make_node("Slice", [_ROW, *bounds], [f"{name}/flat"]),
        helper.make_node("Reshape", [f"{name}/flat", f"{name}/shape"], [f"{name}/row"]),
        # The row is float32, which is exact for whole numbers up to 2^24.
        helper.make_node("Cast", [f"{name}/row"], [name], to=kind),
    ]
    for node in nodes:
        node.name = node.output[0]
    return nodes


def tables(
    proto: onnx.ModelProto, sizes: Mapping[str, int] | None = None
) -> tuple[LookupTable, ...]:
    """Positions of x that are rows of a table.

    The nodes on the way to each lookup are tried out: what arrives must be what was at
    a place. Where a number beyond the table arrives as one inside, the model minds that
    itself.

    Args:
      proto: A checked model with one input.
      sizes: Name of a value to how many there are in one example, as far as known;
        what is too large is not tried out.

    Returns:
      Stretches in ascending order that do not overlap; where a place is looked up in
      several tables, the lowest of them counts.
    """
    entry = inputs(proto)[0]
    if math.prod(row(entry)) > _VALUES_MAX:
        return ()
    heights = {
        item.name: item.dims[0] for item in proto.graph.initializer if len(item.dims)
    }
    lowest: dict[int, int] = {}
    for node in proto.graph.node:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        if node.op_type != "Gather" or axis != 0 or node.input[0] not in heights:
            continue
        height = heights[node.input[0]]
        if _large(proto, node.input[1], sizes or {}):
            continue
        for place in _places(proto, entry, node.input[1], height):
            lowest[place] = min(height, lowest.get(place, height))
    return tuple(_stretches(lowest))[:TABLES_MAX]


def _large(proto: onnx.ModelProto, wanted: str, sizes: Mapping[str, int]) -> bool:
    nodes = _ancestors(proto.graph.node, wanted)
    names = [name for node in nodes for name in node.output]
    return any(sizes.get(name, 0) > _VALUES_MAX for name in names)


def _places(
    proto: onnx.ModelProto, entry: onnx.ValueInfoProto, wanted: str, height: int
) -> list[int]:
    """Values of one example that arrive at a tensor unchanged."""
    # The same rows in every run: tables stand in the manifest, whose digest names the
    # bundle.
    probes = _probes(math.prod(row(entry)), height)
    found = _tried(proto, entry, wanted, probes)
    # A model that clips or masks its tokens needs no refusal of rows beyond the table.
    beyond = _tried(proto, entry, wanted, probes + height)
    if found is None or beyond is None:
        return []
    known: dict[bytes, list[int]] = {}
    for place, column in enumerate(probes.T):
        known.setdefault(column.tobytes(), []).append(place)
    minded = (beyond < height).all(axis=0)
    matches = [known.get(column.tobytes(), []) for column in found.T[~minded]]
    # A column that two places share by chance names neither.
    return [places[0] for places in matches if len(places) == 1]


def _probes(size: int, height: int) -> NDArray[np.int64]:
    """(probes, size): rows below `height`, well mixed and the same each time.

    Source: Steele, Lea, Flood 2014, the last steps of SplitMix.
    """
    words = np.arange(1, _PROBES * size + 1, dtype=np.uint64)
    words *= np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    mixed: NDArray[np.int64] = (words % np.uint64(height)).astype(np.int64)
    return mixed.reshape(_PROBES, size)


def _tried(
    proto: onnx.ModelProto,
    entry: onnx.ValueInfoProto,
    wanted: str,
    probes: NDArray[np.int64],
) -> NDArray[np.int64] | None:
    """(probes, m): what arrives for each row; None if that cannot be found out."""
    if wanted == entry.name:
        return probes
    nodes = _ancestors(proto.graph.node, wanted)
    reads = {name for node in nodes for name in node.input}
    if entry.name not in reads or len(nodes) > _NODES_MAX:
        return None
    graph = helper.make_graph(
        nodes,
        "places",
        [entry],
        [helper.make_empty_tensor_value_info(wanted)],
        [item for item in proto.graph.initializer if item.name in reads],
    )
    model = helper.make_model(graph, opset_imports=proto.opset_import)
    dtype = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
    x = probes.astype(dtype).reshape(_PROBES, *row(entry))
    try:
        results = ReferenceEvaluator(model).run(None, {entry.name: x})
    # What nodes do to numbers that they were not made for is up to NumPy.
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return None
    assert isinstance(results, list)
    shape = np.shape(results[0])
    if _PROBES not in shape:
        return None
    rows = np.moveaxis(np.asarray(results[0]), shape.index(_PROBES), 0)
    return rows.reshape(_PROBES, -1).astype(np.int64)


def _ancestors(nodes: Sequence[onnx.NodeProto], wanted: str) -> list[onnx.NodeProto]:
    names, found = {wanted}, []
    for node in reversed(nodes):
        if names.intersection(node.output):
            found.append(node)
            names.update(node.input)
    return found[::-1]


def _stretches(lowest: dict[int, int]) -> Iterable[LookupTable]:
    start = None
    for place in sorted(lowest):
        if start is None:
            start = place
        if lowest.get(place + 1) != lowest[place]:
            yield LookupTable(start, place + 1 - start, lowest[place])
            start = None
