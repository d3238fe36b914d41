"""Batches that a model joins behind each other, and takes apart again.

Twins and views of an example are often run through one network as a batch of
(k n, ...): first all first parts, then all second ones. What is kept is (n, k, ...), as
where parts are folded into the batch; joining and taking apart run along the parts.
"""

from dataclasses import replace

import numpy as np

from starling.compiler.errors import CompileError
from starling.compiler.ir.network import NetworkNode
from starling.compiler.rewrite.batch.batch_layout import BatchLayout
from starling.compiler.rewrite.batch.batch_rewriter import RewrittenGraph, refuse
from starling.compiler.rewrite.shape_inference import BatchSize

_ENDLESS = (1 << 31) - 1
"""From here on a stop means the end, as exporters write it."""


def join(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Concat along the axis of the batch.

    Raises:
      CompileError: If an input has several parts of an example side by side.
    """
    extent, lines = kept.output(node), []
    for name in node.inputs:
        if name not in kept.layouts or kept.layouts[name].batch != extent.batch:
            raise refuse(node)
        lines.append(_line(kept, node, name))
    assert extent.batch is not None
    # All parts stand in front of the batch: joined batches lie behind each other, each
    # one whole.
    target = BatchLayout(extent.sizes, extent.batch, extent.sizes[extent.batch])
    attributes = {"axis": target.places(extent.batch)[0]}
    kept.keep(replace(node, inputs=tuple(lines), attributes=attributes), target)


def repeat(kept: RewrittenGraph, node: NetworkNode, counts: list[int]) -> None:
    """Tile with several copies along the axis of the batch.

    Raises:
      CompileError: If an example has several parts side by side.
    """
    extent = kept.output(node)
    source = kept.layouts[node.inputs[0]]
    line = _line(kept, node, node.inputs[0])
    made = [1] * len(kept.shape(line))
    wide = replace(source, before=source.sizes[source.batch])
    for axis, count in enumerate(counts):
        made[_places(wide, axis)] = count
    target = BatchLayout(extent.sizes, source.batch, extent.sizes[source.batch])
    inputs = (line, kept.constant(made))
    kept.keep(replace(node, inputs=inputs), target)


def split(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Split into whole batches along the axis of the batch.

    Raises:
      CompileError: If a part is no whole batch, or an example has parts side by side.
    """
    start = 0
    for name in node.outputs:
        extent = kept.extents[name]
        if extent.batch is None:
            raise refuse(node)
        stop = start + extent.sizes[extent.batch]
        _taken(kept, node, name, (start, stop))
        start = stop


def slices(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Slice between multiples of the batch's size along the axis of the batch.

    Raises:
      CompileError: If it cuts through a batch, or along other axes by its size.
    """
    source = kept.layouts.get(node.inputs[0])
    bounds = [_bound(kept, node, position) for position in range(1, 5)]
    starts, stops, axes, steps = bounds
    if source is None or starts is None or stops is None:
        raise _sized(node)
    axis = 0 if axes is None else int(axes.fixed.reshape(-1)[0])
    plain = steps is None or bool((steps.fixed == 1).all() and not steps.times.any())
    one = starts.fixed.size == 1 and plain
    if not one or axis % len(source.sizes) != source.batch:
        raise _sized(node)
    count = source.sizes[source.batch]
    places = [_place(node, bound, count) for bound in (starts, stops)]
    _taken(kept, node, node.outputs[0], (places[0], places[1]))


def along_others(kept: RewrittenGraph, node: NetworkNode) -> NetworkNode | None:
    """A Slice of several axes without that of the batch, where it takes all of it.

    Exporters cut updates to the shape of their places, the batch's size with them.
    """
    source = kept.layouts.get(node.inputs[0])
    starts, stops, axes, steps = [_bound(kept, node, at) for at in range(1, 5)]
    if source is None or starts is None or stops is None or starts.fixed.ndim != 1:
        return None
    number = len(starts.fixed)
    along = np.arange(number) if axes is None else axes.fixed % len(source.sizes)
    own, count = along == source.batch, source.sizes[source.batch]
    whole = (stops.times[own] == count) & (stops.fixed[own] == 0)
    whole |= stops.fixed[own] >= _ENDLESS
    sized = [bound.times[~own] for bound in (starts, stops)]
    sized += [bound.times for bound in (axes, steps) if bound is not None]
    blank = [starts.times[own], starts.fixed[own], *sized]
    if own.sum() != 1 or number < 2 or not whole.all() or any(b.any() for b in blank):
        return None
    strides = np.ones(number, np.int64) if steps is None else steps.fixed
    if strides[own] != 1:
        return None
    columns = (starts.fixed, stops.fixed, along, strides)
    inputs = [kept.constant(column[~own].tolist()) for column in columns]
    return replace(node, inputs=(node.inputs[0], *inputs))


def _place(node: NetworkNode, bound: BatchSize, count: int) -> int:
    """Part at which a slice starts or stops."""
    fixed, times = int(bound.fixed.reshape(-1)[0]), int(bound.times.reshape(-1)[0])
    if fixed >= _ENDLESS:
        return count
    # A bound that is no multiple of the batch cuts between two examples of it.
    if fixed:
        raise refuse(node)
    return min(max(times + count if times < 0 else times, 0), count)


def _bound(kept: RewrittenGraph, node: NetworkNode, position: int) -> BatchSize | None:
    name = node.inputs[position] if position < len(node.inputs) else ""
    if name in kept.constants:
        fixed = kept.constants[name].astype(np.int64)
        return BatchSize(fixed, np.zeros_like(fixed))
    return kept.counts.get(name)


def _taken(
    kept: RewrittenGraph, node: NetworkNode, name: str, part: tuple[int, int]
) -> None:
    """Some of the parts in a row, under a name of the model."""
    extent, source = kept.extents[name], kept.layouts[node.inputs[0]]
    if extent.batch != source.batch or extent.sizes[source.batch] != part[1] - part[0]:
        raise refuse(node)
    line = _line(kept, node, node.inputs[0])
    wide = replace(source, before=source.sizes[source.batch])
    place = _places(wide, source.batch)
    shape = list(kept.shape(line))
    # The part is cut under a name of its own and reshaped: a single part has no axis of
    # its own where it is kept.
    shape[place] = part[1] - part[0]
    bounds = [kept.constant([number]) for number in (*part, place)]
    cut = kept.call("Slice", (line, *bounds), tuple(shape))
    made = NetworkNode("Reshape", node.name, (cut,), (name,), {})
    kept.keep(made, BatchLayout(extent.sizes, source.batch, part[1] - part[0]))


def _line(kept: RewrittenGraph, node: NetworkNode, name: str) -> str:
    """A value with one axis for all parts of an example, one too."""
    count = kept.layouts[name].sizes[kept.layouts[name].batch]
    name = kept.relaid(name, count)
    layout = kept.layouts[name]
    if layout.before != count:
        raise refuse(node)
    inside = 1 + sum([len(part) for part in layout.parts[: layout.batch]])
    shape = layout.shape
    rest = shape[inside + len(layout.parts[layout.batch]) :]
    return kept.reshaped(name, (*shape[:inside], count, *rest))


def _places(layout: BatchLayout, axis: int) -> int:
    """Axis of a line that belongs to one of the model's axes."""
    if axis <= layout.batch or layout.parts[layout.batch]:
        return 1 + sum([len(part) for part in layout.parts[:axis]])
    return 2 + sum([len(part) for part in layout.parts[:axis]])


def _sized(node: NetworkNode) -> CompileError:
    """The error for a node that uses the size of the batch as a number."""
    return CompileError(
        f"{node.label}: computes with the size of the batch; take the whole batch "
        "there, or export the model for one example",
        (node.name,),
    )
