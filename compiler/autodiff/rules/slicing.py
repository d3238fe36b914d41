"""Operators that pick values by their place, or put zeros and copies around them."""

import numpy as np
from onnx import TensorProto

from starling.compiler.autodiff.gradient_factors import Lookup
from starling.compiler.autodiff.tape import Tape, copy, positive_axis
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode

Picks = list[tuple[int, list[int]]]
"""Along which axis which places are taken, axis by axis."""
_ENDLESS = (1 << 31) - 1
"""From here on a stop means the end, as exporters write it."""


def slice_forward(tape: Tape, node: NetworkNode) -> None:
    """Slice with constant bounds, along other axes than the batch."""
    _pick_forward(tape, node, _sliced(tape, node))


def slice_backward(tape: Tape, node: NetworkNode) -> None:
    """Back to where the values stood."""
    _pick_backward(tape, node, _sliced(tape, node))


def pad_forward(tape: Tape, node: NetworkNode) -> None:
    """Pad with a constant, or with copies of the tensor's own values."""
    mode = node.attributes.get("mode", b"constant")
    if mode != b"constant":
        _pick_forward(tape, node, _padded(tape, node))
        return
    x = tape.input(node, 0)
    value = tape.inputs(node)[2] if len(node.inputs) > 2 else None
    x, before, after = _cut(tape, node, x)
    pads = tape.build.integers(*before, *after)
    inputs = (x, pads) if value is None else (x, pads, value)
    tape.put(node, tape.build.op("Pad", inputs, tape.shape(node)))


def pad_backward(tape: Tape, node: NetworkNode) -> None:
    """Cuts the padding off, or adds copies up where they came from."""
    if node.attributes.get("mode", b"constant") != b"constant":
        _pick_backward(tape, node, _padded(tape, node))
        return
    before, after = _margins(tape, node)
    cotangent, x = tape.cotangent(node), tape.input(node, 0)
    shift = 0 if x.batched else 1
    for axis, size in enumerate(x.shape):
        if size is None:
            continue
        place, left, right = axis + shift, before[axis], after[axis]
        whole = cotangent.shape[place]
        assert whole is not None
        start, stop = max(left, 0), whole - max(right, 0)
        cotangent = tape.build.slice(cotangent, place, start, stop)
        kept = list(range(size)[max(-left, 0) : size + min(right, 0)])
        cotangent = tape.build.unselect(cotangent, place, kept, size)
    tape.give(node, 0, cotangent)


def _cut(
    tape: Tape, node: NetworkNode, x: BuilderTensor
) -> tuple[BuilderTensor, list[int], list[int]]:
    """Takes off what negative margins say; the margins that are left.

    Raises:
      CompileError: If nothing of an axis would be left.
    """
    before, after = _margins(tape, node)
    for axis, size in enumerate(x.shape):
        start, cut = max(-before[axis], 0), max(-after[axis], 0)
        if size is None or not (start or cut):
            continue
        if start + cut >= size:
            raise CompileError(
                f"{node.label}: nothing is left of an axis; cut less away", (node.name,)
            )
        x = tape.build.slice(x, axis, start, size - cut)
        before[axis], after[axis] = max(before[axis], 0), max(after[axis], 0)
    return x, before, after


def split_forward(tape: Tape, node: NetworkNode) -> None:
    """Split along another axis than the batch."""
    x = tape.input(node, 0)
    axis = positive_axis(x, node.attributes.get("axis", 0), node)
    shapes = [tape.network.shapes[name] for name in node.outputs]
    sizes = [shape[axis] or 0 for shape in shapes]
    parts = tape.build.ops("Split", (x, tape.build.integers(*sizes)), shapes, axis=axis)
    tape.put(node, *parts)


def split_backward(tape: Tape, node: NetworkNode) -> None:
    """Joins the parts again."""
    build, x = tape.build, tape.input(node, 0)
    axis = positive_axis(x, node.attributes.get("axis", 0), node)
    shift = 0 if x.batched else 1
    start, parts, whole = 0, [], True
    for index, name in enumerate(node.outputs):
        size = tape.network.shapes[name][axis]
        assert size is not None
        if tape.reached(node, index):
            parts.append(
                (list(range(start, start + size)), tape.cotangent(node, index))
            )
        else:
            whole = False
        start += size
    # All parts have a cotangent: joined they are that of the input, with no zeros to
    # add.
    if whole:
        tape.give(node, 0, build.concat([part for _, part in parts], axis + shift))
        return
    for places, part in parts:
        tape.give(node, 0, build.unselect(part, axis + shift, places, start))


def gather_forward(tape: Tape, node: NetworkNode) -> None:
    """Rows of a table by the model's input, or constant places of a tensor.

    Raises:
      CompileError: If places differ from example to example in a tensor that does too.
    """
    table, indices = tape.input(node, 0), tape.input(node, 1)
    axis = positive_axis(table, node.attributes.get("axis", 0), node)
    if indices.batched and (table.batched or axis != 0):
        raise CompileError(
            f"{node.label}: looks up a place of its own in each example; "
            "write it with GatherElements (torch.gather) or a product with a mask",
            (node.name,),
        )
    copy(tape, node)


def gather(tape: Tape, node: NetworkNode) -> None:
    """Adds cotangents up in the rows that they came from."""
    build, cotangent = tape.build, tape.cotangent(node)
    table, indices = tape.input(node, 0), tape.input(node, 1)
    if indices.batched:
        width = table.row_size // table.row[0]
        length = cotangent.row_size // width
        # They may be int32 in the model.
        indices = build.unary("Cast", indices, to=TensorProto.INT64)
        use = Lookup(
            build.reshape(indices, (None, length)),
            build.reshape(cotangent, (None, length, width)),
            table.row[0],
        )
        tape.credit(node, 0, use)
        return
    places = tape.constant(node, 1)
    if places is None:
        raise CompileError(
            f"{node.label}: its places are computed; "
            "write it with constant places, or with Where and a mask",
            (node.name,),
        )
    axis = positive_axis(table, node.attributes.get("axis", 0), node)
    size = table.shape[axis]
    assert size is not None
    row = (None, *table.row)
    axis += 0 if table.batched else 1
    # Negative places count from the end.
    flat = [int(place) % size for place in places.reshape(-1).tolist()]
    stretched = build.reshape(cotangent, (*row[:axis], len(flat), *row[axis + 1 :]))
    tape.give(node, 0, build.unselect(stretched, axis, flat, size))


def expand_forward(tape: Tape, node: NetworkNode) -> None:
    """Repeats values, along the batch too."""
    tape.put(node, tape.build.expand(tape.input(node, 0), tape.shape(node)))


def expand(tape: Tape, node: NetworkNode) -> None:
    """The sum over the copies."""
    tape.give_broadcast(node, 0, tape.cotangent(node))


def tile_forward(tape: Tape, node: NetworkNode) -> None:
    """Copies of a tensor side by side, along other axes than the batch.

    Raises:
      CompileError: If their number is computed, or there are several batches.
    """
    x, repeats = tape.input(node, 0), tape.constant(node, 1)
    if repeats is None or (x.batched and int(repeats[0]) != 1):
        raise CompileError(
            f"{node.label}: needs constant numbers of copies, and one of the batch; "
            "export the model with constant numbers",
            (node.name,),
        )
    copy(tape, node)


def tile(tape: Tape, node: NetworkNode) -> None:
    """The sum over the copies, axis by axis."""
    build, x, cotangent = tape.build, tape.input(node, 0), tape.cotangent(node)
    repeats = tape.constant(node, 1)
    assert repeats is not None
    shift = 0 if x.batched else 1
    for axis, (size, count) in enumerate(zip(x.shape, repeats.tolist(), strict=True)):
        if size is None or count == 1:
            continue
        place = axis + shift
        shape = (*cotangent.shape[:place], count, size, *cotangent.shape[place + 1 :])
        parts = build.reshape(cotangent, shape)
        cotangent = build.reduce("ReduceSum", parts, [place])
    tape.give(node, 0, cotangent)


def _pick_forward(tape: Tape, node: NetworkNode, picks: Picks) -> None:
    value = tape.input(node, 0)
    for axis, places in picks:
        value = tape.build.select(value, axis, places)
    tape.put(node, value)


def _pick_backward(tape: Tape, node: NetworkNode, picks: Picks) -> None:
    x, cotangent = tape.input(node, 0), tape.cotangent(node)
    shift = 0 if x.batched else 1
    for axis, places in reversed(picks):
        size = x.shape[axis]
        assert size is not None
        cotangent = tape.build.unselect(cotangent, axis + shift, places, size)
    tape.give(node, 0, cotangent)


def _sliced(tape: Tape, node: NetworkNode) -> Picks:
    x = tape.input(node, 0)
    columns = [tape.constant(node, position) for position in range(1, 5)]
    if columns[0] is None or columns[1] is None:
        raise CompileError(
            f"{node.label}: needs constant bounds; "
            "export the model with constant bounds",
            (node.name,),
        )
    starts, stops = columns[0].tolist(), columns[1].tolist()
    axes = list(range(len(starts))) if columns[2] is None else columns[2].tolist()
    steps = [1] * len(starts) if columns[3] is None else columns[3].tolist()
    picks = []
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        whole = (start, step) == (0, 1) and stop >= _ENDLESS
        if x.batched and axis % len(x.shape) == 0 and whole:
            continue
        place = positive_axis(x, axis, node)
        size = x.shape[place]
        assert size is not None
        # Python's slices clip bounds and count negative ones from the end, as ONNX
        # does.
        places = list(range(size)[start:stop:step])
        if not places:
            raise CompileError(
                f"{node.label}: takes nothing; leave it out", (node.name,)
            )
        picks.append((place, places))
    return picks


def _margins(tape: Tape, node: NetworkNode) -> tuple[list[int], list[int]]:
    """Padding before and behind each axis, none along the batch."""
    x, pads = tape.input(node, 0), tape.constant(node, 1)
    axes = tape.constant(node, 3)
    if pads is None or (axes is None and len(node.inputs) > 3 and node.inputs[3]):
        raise CompileError(
            f"{node.label}: needs constant padding; "
            "export the model with constant padding",
            (node.name,),
        )
    rank = len(x.shape)
    chosen = range(rank) if axes is None else [axis % rank for axis in axes.tolist()]
    before, after = [0] * rank, [0] * rank
    half = len(chosen)
    for index, axis in enumerate(chosen):
        before[axis], after[axis] = int(pads[index]), int(pads[half + index])
    if x.batched and (before[0] or after[0]):
        raise CompileError(
            f"{node.label}: works along the batch axis; let it work along another, as "
            "each row of the output has to come from one row of the input",
            (node.name,),
        )
    return before, after


def _padded(tape: Tape, node: NetworkNode) -> Picks:
    """Mask of the places that a tensor fills in its padded form."""
    mode = node.attributes["mode"].decode()
    if mode not in ("edge", "reflect", "wrap"):
        raise CompileError(
            f"{node.label}: unknown mode {mode[:20]!r}; "
            "constant, edge, reflect and wrap are known",
            (node.name,),
        )
    x = tape.input(node, 0)
    picks = []
    for axis, (before, after) in enumerate(zip(*_margins(tape, node), strict=True)):
        size = x.shape[axis]
        if size is None or (before, after) == (0, 0):
            continue
        places = np.arange(size)[max(-before, 0) : size - max(-after, 0)]
        margins = (max(before, 0), max(after, 0))
        short = max(margins) >= len(places) and mode != "edge"
        if not len(places) or short:
            raise CompileError(
                f"{node.label}: padding beyond its axis; pad in two steps", (node.name,)
            )
        padded = (
            np.pad(places, margins, mode="edge")
            if mode == "edge"
            else np.pad(places, margins, mode="reflect")
            if mode == "reflect"
            else np.pad(places, margins, mode="wrap")
        )
        picks.append((axis, padded.tolist()))
    return picks
