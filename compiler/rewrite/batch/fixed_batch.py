"""Frees the batch of a model that was exported for one number of examples.

Exporters that are told nothing write the size of their sample batch into targets of
reshapes, zero states and expanded tokens. With the shapes of every value for that size
and for another one, it is plain which of these numbers is the batch: what a reshape
keeps in front of the batch says which axis of its target holds it, and a constant that
is as long as the batch where its neighbours follow the batch is one example, repeated.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import onnx
from onnx import helper, numpy_helper
from onnx.shape_inference import InferenceError, infer_shapes

from starling.compiler.errors import CompileError
from starling.compiler.rewrite.batch.batch_operands import (
    constant,
    opened,
    resized,
    widened,
)
from starling.compiler.rewrite.batch.constant_shapes import known_sizes, settle_sizes
from starling.compiler.rewrite.constant_folding import check_lengths
from starling.compiler.rewrite.model_inputs import inputs

Sizes = tuple[int, ...]
_OTHERS = (61, 67)
"""Batches that no axis has; the second one where the file has the first."""
_CHANGES_MAX = 256
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
_STATES = (5, 6)
"""Inputs of recurrent layers that hold (directions, batch, hidden)."""
_ROWS = 2
"""Axes of a matrix."""
_BESIDE = frozenset({"Add", "Concat", "Div", "Mul", "Sub", "Where"})
"""Operators whose inputs are as long as each other, or 1."""


def fixed_batch(proto: onnx.ModelProto) -> int | None:
    """The number of examples that a model was exported for; None if any will do.

    A tracer that met `len(x)` leaves the inputs free and fixes what it computes.
    """
    entries = _firsts(inputs(proto))
    # Inputs that fix different sizes are told of where inputs are joined.
    if not entries or None not in entries:
        return entries.pop() if len(entries) == 1 else None
    ends = _firsts(proto.graph.output)
    one = ends.pop() if len(ends) == 1 and len(entries) == 1 else None
    return one if one is not None and one > 1 else None


def _firsts(values: Iterable[onnx.ValueInfoProto]) -> set[int | None]:
    """Sizes of the first axes; None stands for those that are free."""
    found = set[int | None]()
    for value in values:
        sizes = value.type.tensor_type.shape.dim
        # Some writers say -1 of an axis that is free.
        fixed = bool(sizes) and sizes[0].dim_value > 0
        found.add(int(sizes[0].dim_value) if fixed else None)
    return found


@contextmanager
def blaming_fixed_batch(batch: int | None) -> Iterator[None]:
    """Says of whatever stands in the way of the batch that the file fixes it.

    Args:
      batch: How many examples a model was exported for; None if any will do.
    """
    try:
        yield
    except CompileError as error:
        if batch is None or "batch" not in str(error):
            raise
        raise CompileError(
            f"the model was exported for a fixed batch of {batch}, which stands inside "
            "it; export it with a dynamic batch axis (in PyTorch dynamic_axes="
            "{'x': {0: 'n'}}, or dynamic_shapes=({0: Dim('n')},) with dynamo=True): "
            f"{error}",
            error.nodes,
        ) from error


@dataclass(frozen=True)
class _Both:
    """The shapes of all values for two batches.

    Attributes:
      batch: That of the file.
      other: Another one.
      ours: Name to shape with the file's.
      theirs: Name to shape with the other.
    """

    batch: int
    other: int
    ours: Mapping[str, Sizes]
    theirs: Mapping[str, Sizes]

    def axis(self, name: str) -> int | None:
        """The only axis of a value that follows the batch."""
        ours, theirs = self.ours.get(name, ()), self.theirs.get(name, ())
        if len(ours) != len(theirs):
            return None
        axes = [i for i in range(len(ours)) if ours[i] != theirs[i]]
        return axes[0] if len(axes) == 1 else None

    def stays(self, name: str, axis: int) -> bool:
        """True if a value is as long as the file's batch for any batch."""
        sizes = self.ours.get(name, ())
        still = name in self.theirs and self.theirs[name] == sizes
        return still and 0 <= axis < len(sizes) and sizes[axis] == self.batch


def freed(proto: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The same model for any number of examples, as far as it is plain how.

    Args:
      proto: A checked model, which is not changed.
      batch: What its inputs have for a first axis.
    """
    found = known_sizes(proto)
    ours = _shapes(found, batch)
    other = _OTHERS[batch == _OTHERS[0]]
    # One change at a time, with shapes inferred anew: each frees what comes behind it,
    # and axes that still look fixed there may follow by themselves.
    for _ in range(_CHANGES_MAX):
        both = _Both(batch, other, ours, _shapes(found, other))
        if _changed(found, both):
            continue
        # Of values that do not follow the batch yet no shape counts: it may be the
        # file's batch, and would become a constant.
        sure = [
            {
                name: sizes
                for name, sizes in shapes.items()
                if both.axis(name) is not None
            }
            for shapes in (ours, both.theirs)
        ]
        if not settle_sizes(found, sure[0], sure[1]):
            break
        ours = _shapes(found, batch)
    for entry in inputs(found):
        entry.type.tensor_type.shape.dim[0].dim_param = "n"
    return found


def _shapes(proto: onnx.ModelProto, batch: int) -> Mapping[str, Sizes]:
    """Of every value that inference knows when the inputs have so many examples."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    for entry in inputs(model):
        entry.type.tensor_type.shape.dim[0].dim_value = batch
    # Inference with data writes vectors out, so that a hostile length is refused first.
    check_lengths(model)
    try:
        graph = infer_shapes(model, data_prop=True).graph
    # What cannot be inferred at all is refused later, with its own message.
    except (InferenceError, ValueError):
        return {}
    found = {item.name: tuple(item.dims) for item in proto.graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        sizes = info.type.tensor_type.shape.dim
        known = info.type.tensor_type.HasField("shape")
        if known and all(size.HasField("dim_value") for size in sizes):
            found[info.name] = tuple([size.dim_value for size in sizes])
    return found


def _changed(proto: onnx.ModelProto, both: _Both) -> bool:
    """Changes the first node that holds on to the batch; whether there was one."""
    inside: dict[str, int] = {}
    for index, node in enumerate(proto.graph.node):
        if node.op_type == "Reshape":
            target = _target(node, both, inside)
            if target is not None:
                name = f"{node.output[0]}/freed"
                node.input[1] = constant(proto.graph, name, target)
                return True
            continue
        _pass_on(node, both, inside)
        if _operands_freed(proto, node, both):
            return True
        for position, axis in _held(node, both):
            rank = len(both.ours[node.input[position]])
            at = _shorten(proto.graph, index, position, axis)
            # These do not broadcast, unlike the operators of `_BESIDE`: the one example
            # has to be repeated in the graph.
            if node.op_type == "Concat" or node.op_type in _RECURRENT:
                _repeat(proto, at, position, axis, rank)
            return True
    return False


def _operands_freed(proto: onnx.ModelProto, node: onnx.NodeProto, both: _Both) -> bool:
    """Takes the batch out of numbers that a node reads; whether there was any."""
    axis = both.axis(node.input[0]) if node.input else None
    if axis is None:
        return False
    rank = len(both.ours[node.input[0]])
    if node.op_type == "Slice":
        return opened(proto.graph, node, axis, rank, both.batch)
    if node.op_type == "Expand":
        return widened(proto.graph, node, axis, rank, both.batch)
    return node.op_type == "Resize" and resized(proto, node, axis, both.batch)


def _pass_on(node: onnx.NodeProto, both: _Both, inside: dict[str, int]) -> None:
    """Notes what stands before the batch within its axis, as the inputs have it."""
    found = {inside[name] for name in node.input if name in inside}
    for name in node.output:
        axis = both.axis(name)
        # Only where inputs agree: else the place of the batch within the axis is not
        # known.
        if len(found) == 1 and axis is not None and both.ours[name][axis] > both.batch:
            inside[name] = max(found)


def _target(node: onnx.NodeProto, both: _Both, inside: dict[str, int]) -> Sizes | None:
    """Shape that a reshape should ask for; None if it follows the batch already."""
    source, made = node.input[0], both.ours.get(node.output[0])
    axis = both.axis(source)
    if made is None or axis is None:
        return None
    ahead = math.prod(both.ours[source][:axis]) * inside.get(source, 1)
    place = _place(made, ahead, both.batch, both.axis(node.output[0]))
    if place is None:
        return None
    inside[node.output[0]] = ahead // max(math.prod(made[:place]), 1)
    # The batch and the rest of its axis grow together.
    grown = made[place] // both.batch * both.other
    if both.theirs.get(node.output[0]) == (*made[:place], grown, *made[place + 1 :]):
        return None
    return (*made[:place], -1, *made[place + 1 :])


def _place(sizes: Sizes, ahead: int, batch: int, follows: int | None) -> int | None:
    """The axis that holds the batch if `ahead` values stand before it.

    One that is the batch alone is best. Of others the last is worst, as it holds
    features, and one that begins with the batch is better than one that ends with it;
    what follows the batch already is better still.
    """
    found = []
    for place, size in enumerate(sizes):
        start = math.prod(sizes[:place])
        before, rest = divmod(ahead, start) if start else (0, 1)
        if rest == 0 and before and size % (before * batch) == 0:
            alone = before == 1 and size == batch
            last = place == len(sizes) - 1
            found.append((not alone, place != follows, last, before > 1, place))
    return min(found)[-1] if found else None


def _held(node: onnx.NodeProto, both: _Both) -> list[tuple[int, int]]:
    """Inputs that stay as long as the batch was, and along which axis."""
    names = list(node.input)
    if node.op_type in _RECURRENT:
        states = [(position, 1) for position in _STATES if position < len(names)]
        return [item for item in states if both.stays(names[item[0]], item[1])]
    # Operands of length 1 are repeated by themselves, but never joined so.
    if both.batch == 1 and node.op_type != "Concat":
        return []
    if node.op_type == "Expand" and node.output[0] not in both.theirs:
        sizes = both.ours.get(names[0], ())
        return [(0, axis) for axis in range(len(sizes)) if both.stays(names[0], axis)]
    # Counted from the last, as operands broadcast.
    moving = {
        axis - len(both.ours[name])
        for name in names
        if (axis := both.axis(name)) is not None
    }
    # Rows and columns of a product are none of its outer axes.
    product = node.op_type == "MatMul" and max(moving, default=0) < -_ROWS
    if len(moving) != 1 or not (product or node.op_type in _BESIDE):
        return []
    (axis,) = moving
    rank = len(both.ours.get(node.output[0], ()))
    joins = next((a.i for a in node.attribute if a.name == "axis"), 0)
    if node.op_type == "Concat" and rank and joins % rank == axis % rank:
        return []
    places = [len(both.ours.get(name, ())) + axis for name in names]
    return [
        (position, place)
        for position, place in enumerate(places)
        if both.stays(names[position], place)
    ]


def _shorten(graph: onnx.GraphProto, index: int, position: int, axis: int) -> int:
    """Takes one example of a node's input; the node's index from then on."""
    node = graph.node[index]
    source, name = node.input[position], f"{node.output[0]}/one {position}"
    if _cut(graph, source, axis):
        return index
    bounds = [
        constant(graph, f"{name}/{key}", [value])
        for key, value in (("start", 0), ("stop", 1), ("axis", axis))
    ]
    node.input[position] = name
    _insert(graph, index, [helper.make_node("Slice", [source, *bounds], [name], name)])
    return index + 1


def _cut(graph: onnx.GraphProto, name: str, axis: int) -> bool:
    """Keeps one example of a tensor that repeats it for its only reader."""
    tensor = next((item for item in graph.initializer if item.name == name), None)
    readers = sum([[*node.input].count(name) for node in graph.node])
    # Another reader may need all of its rows.
    if tensor is None or readers != 1 or name in {item.name for item in graph.input}:
        return False
    values = numpy_helper.to_array(tensor)
    one = values.take([0], axis)
    # Rows that differ are no repeated example but data; these are sliced in the graph.
    if (values != one).any():
        return False
    tensor.CopyFrom(numpy_helper.from_array(one, name))
    return True


def _repeat(
    proto: onnx.ModelProto, index: int, position: int, axis: int, rank: int
) -> None:
    """Repeats an input of one example as often as there are examples."""
    graph, entry = proto.graph, inputs(proto)[0].name
    node = graph.node[index]
    source, name = node.input[position], f"{node.output[0]}/all {position}"
    first = constant(graph, f"{name}/first", [0])
    parts = [
        constant(graph, f"{name}/before", [1] * axis),
        f"{name}/count",
        constant(graph, f"{name}/behind", [1] * (rank - axis - 1)),
    ]
    node.input[position] = name
    _insert(
        graph,
        index,
        [
            helper.make_node("Shape", [entry], [f"{name}/sizes"], f"{name}/sizes"),
            helper.make_node("Gather", [f"{name}/sizes", first], [parts[1]], parts[1]),
            helper.make_node(
                "Concat", parts, [f"{name}/shape"], f"{name}/shape", axis=0
            ),
            helper.make_node("Expand", [source, f"{name}/shape"], [name], name),
        ],
    )


def _insert(
    graph: onnx.GraphProto, index: int, nodes: Sequence[onnx.NodeProto]
) -> None:
    for offset, node in enumerate(nodes):
        graph.node.insert(index + offset, node)
