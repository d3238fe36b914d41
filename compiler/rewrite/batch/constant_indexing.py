"""Indexing by constants: what gathers or scatters at known places becomes Gather.

Places may count through the batch (e k + place for example e, or e beside the place),
as exporters write fancy indexing, strided views and masks: each example then looks up
the same places of its own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_writer import Shape
from starling.compiler.ir.network import NetworkNode
from starling.compiler.rewrite.batch.batch_layout import BatchLayout
from starling.compiler.rewrite.batch.batch_rewriter import RewrittenGraph, refuse
from starling.protocol.model.training_bundle import FILE_BYTES_MAX

Places = NDArray[np.int64]
_ROUNDS_MAX = 64
"""How often one place may be added to."""
_PLACES_MAX = FILE_BYTES_MAX // np.dtype(np.int64).itemsize
"""Of one node's new values; no file of a bundle holds more."""


@dataclass(frozen=True)
class _Known:
    """Constant places.

    Attributes:
      places: Of one example, with size 1 along the batch axis if there is one.
      step: What each example adds to those of the one before; None if nothing.
    """

    places: Places
    step: Places | None


def indexing(kept: RewrittenGraph, node: NetworkNode) -> bool:
    """Takes over a node that indexes by constants; says whether it did.

    Raises:
      CompileError: If places of one example lie in another.
    """
    step = _STEPS.get(node.kind)
    known = None if step is None else _known(kept, node.inputs[1])
    # Places that are the same for all examples need no help in a Gather.
    plain = node.kind == "Gather" and known is not None and known.step is None
    if step is None or known is None or plain:
        return False
    step(kept, node, known)
    return True


def computed(kept: RewrittenGraph, node: NetworkNode) -> None:
    """GatherND at places that are computed, from a table or from each example's own.

    Raises:
      CompileError: If it indexes the batch.
    """
    name, indices = node.inputs
    source, places = kept.layouts.get(name), kept.layouts.get(indices)
    own = node.attributes.get("batch_dims", 0)
    extent = kept.output(node)
    plain = places is not None and places.plain and extent.plain
    if places is None or not plain or own != int(source is not None):
        raise refuse(node)
    if source is not None and not source.plain:
        raise refuse(node)
    count = places.sizes[-1]
    sizes = kept.extents[name].sizes[own : own + count]
    rest = kept.extents[name].sizes[own + count :]
    size, length = math.prod(sizes), math.prod(places.sizes[1:-1])
    flat = _numbered(kept, indices, sizes, length)
    if source is None:
        table = kept.reshaped(name, (size, *rest))
        taken = kept.call("Gather", (table, flat), (None, length, *rest), axis=0)
    else:
        width = math.prod(rest)
        line = kept.reshaped(name, (None, size, width))
        column = kept.reshaped(flat, (None, length, 1))
        wide = kept.call("Expand", (column,), (None, length, width))
        shape = (None, length, width)
        taken = kept.call("GatherElements", (line, wide), shape, axis=1)
    made = replace(node, kind="Reshape", inputs=(taken,), attributes={})
    kept.keep(made, BatchLayout(extent.sizes, 0))


def _numbered(
    kept: RewrittenGraph, indices: str, sizes: tuple[int, ...], length: int
) -> str:
    """Places along several axes as one number each: (n, length)."""
    shape = kept.shape(indices)
    steps = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    limits, strides = kept.constant(sizes), kept.constant(steps)
    # ONNX's Mod of integers takes the sign of the divisor: negative places come out as
    # counted from the front.
    inside = kept.call("Mod", (indices, limits), shape)
    products = kept.call("Mul", (inside, strides), shape)
    last = kept.constant([len(shape) - 1])
    sums = kept.call("ReduceSum", (products, last), shape[:-1], keepdims=0)
    return kept.reshaped(sums, (None, length))


def _known(kept: RewrittenGraph, name: str) -> _Known | None:
    if name in kept.repeated:
        item = kept.repeated[name]
        if item is None or item.before:
            return None
        return _Known(item.once.astype(np.int64), item.step)
    value = kept.constants.get(name)
    return None if value is None else _Known(value.astype(np.int64), None)


def _gather(kept: RewrittenGraph, node: NetworkNode, known: _Known) -> None:
    """Gather of places e k + p from values of which each example has k in a row."""
    source = kept.layouts.get(node.inputs[0])
    axis = node.attributes.get("axis", 0)
    if source is None or axis % len(source.sizes) or source.batch or source.before > 1:
        raise refuse(node)
    size = source.sizes[0]
    # Example e may reach its own rows e k to e k + k - 1 and no others, or a
    # neighbour's record would enter its gradient.
    inside = (known.places >= 0) & (known.places < size)
    if not (np.all(known.step == size) and inside.all()):
        raise refuse(node)
    _take(kept, node, size, 1, known.places.reshape(-1))


def _gather_nd(kept: RewrittenGraph, node: NetworkNode, known: _Known) -> None:
    """GatherND: the axes that are indexed become one, and a Gather takes from it."""
    if node.attributes.get("batch_dims", 0):
        known = _spelt_out(kept, node, known)
    flat, size = _flat(kept, node, known)
    if node.inputs[0] in kept.layouts:
        _take(kept, node, size, known.places.shape[-1], flat)
        return
    rest = kept.extents[node.inputs[0]].sizes[known.places.shape[-1] :]
    line = kept.reshaped(node.inputs[0], (size, *rest))
    places, shape = kept.constant(flat.tolist()), (len(flat), *rest)
    taken = kept.call("Gather", (line, places), shape, axis=0)
    kept.keep(replace(node, kind="Reshape", inputs=(taken,), attributes={}))


def _spelt_out(kept: RewrittenGraph, node: NetworkNode, known: _Known) -> _Known:
    """Places behind `batch_dims` axes, with their numbers along these axes in front."""
    depth, places = node.attributes["batch_dims"], known.places
    layout = kept.layouts.get(node.inputs[0])
    plain = layout is not None and layout.plain and places.shape[0] == 1
    if known.step is not None or not plain:
        raise refuse(node)
    shape = places.shape[:-1]
    grid = [axis.reshape(*shape, 1) for axis in np.indices(shape)[:depth]]
    step = np.zeros(depth + places.shape[-1], np.int64)
    step[0] = 1
    return _Known(np.concatenate([*grid, places], -1), step)


def _flat(kept: RewrittenGraph, node: NetworkNode, known: _Known) -> tuple[Places, int]:
    """Places within one example as one number each, and how many there are.

    Raises:
      CompileError: If they lie in other examples.
    """
    count = known.places.shape[-1]
    limits = np.array(kept.extents[node.inputs[0]].sizes[:count], np.int64)
    columns = known.places.reshape(-1, count)
    layout = kept.layouts.get(node.inputs[0])
    # How much a place has to grow from example to example: by one whole example along
    # the batch axis, and not at all along others.
    wanted = np.zeros(count, np.int64)
    if layout is not None and layout.batch < count:
        wanted[0] = limits[0]
        if layout.batch or layout.before > 1:
            raise refuse(node)
    step = wanted * 0 if known.step is None else known.step
    # ONNX counts negative places from the end.
    columns = np.where(columns < 0, columns + limits, columns)
    inside = (columns >= 0) & (columns < limits)
    if not ((step == wanted).all() and inside.all()):
        raise refuse(node)
    flat = np.ravel_multi_index(tuple(columns.T), tuple(limits.tolist()))
    return np.asarray(flat, np.int64).reshape(-1), int(np.prod(limits))


def _scatter_nd(kept: RewrittenGraph, node: NetworkNode, known: _Known) -> None:
    """ScatterND: each place takes the last value that is put there, or their sum."""
    flat, size = _flat(kept, node, known)
    name, _, updates = node.inputs
    if name not in kept.layouts or updates not in kept.layouts:
        raise CompileError(
            f"{node.label}: puts values of examples into one that belongs to none, or "
            "the other way round; repeat that for the batch first (zeros_like, "
            "expand), or write it with Where and a mask",
            (node.name,),
        )
    # Data and updates have to fold parts alike, else a part would be written into
    # another.
    before = kept.before(node, [name, updates])
    rest = _line(kept, node, size, known.places.shape[-1])[1]
    line = kept.reshaped(kept.relaid(name, before), (None, size, *rest))
    news = kept.reshaped(kept.relaid(updates, before), (None, len(flat), *rest))
    _scatter(kept, node, (line, news), flat)


def _scatter_elements(kept: RewrittenGraph, node: NetworkNode, known: _Known) -> None:
    """ScatterElements at the same places of each example."""
    name, places, updates = node.inputs
    plain = all(
        item in kept.layouts and kept.layouts[item].plain for item in node.inputs
    )
    if places not in kept.repeated or not plain or known.step is not None:
        raise refuse(node)
    row = kept.layouts[name].sizes[1:]
    axis = node.attributes.get("axis", 0) % (len(row) + 1) - 1
    inner = known.places[0]
    inner = np.where(inner < 0, inner + row[axis], inner)
    if axis < 0 or not ((inner >= 0) & (inner < row[axis])).all():
        raise refuse(node)
    grid = list(np.indices(inner.shape))
    grid[axis] = inner
    flat = np.ravel_multi_index(tuple([g.reshape(-1) for g in grid]), row)
    line = kept.reshaped(name, (None, math.prod(row)))
    news = kept.reshaped(updates, (None, inner.size))
    _scatter(kept, node, (line, news), np.asarray(flat, np.int64))


def _line(
    kept: RewrittenGraph, node: NetworkNode, size: int, count: int
) -> tuple[str, tuple[int, ...]]:
    """The data as (n, size, rest), and the rest."""
    name = node.inputs[0]
    layout = kept.layouts[name]
    rest = tuple([s for part in layout.parts[count:] for s in part])
    return kept.reshaped(name, (None, size, *rest)), rest


def _take(
    kept: RewrittenGraph, node: NetworkNode, size: int, count: int, flat: Places
) -> None:
    """Takes places among the first `count` axes, which hold `size` values."""
    layout, extent = kept.layouts[node.inputs[0]], kept.output(node)
    if extent.batch is None:
        raise refuse(node)
    line, rest = _line(kept, node, size, count)
    before = layout.before if layout.batch >= count else 1
    taken = _taken(kept, line, flat, rest)
    made = replace(node, kind="Reshape", inputs=(taken,), attributes={})
    kept.keep(made, BatchLayout(extent.sizes, extent.batch, before))


def _taken(kept: RewrittenGraph, line: str, flat: Places, rest: Shape) -> str:
    places = kept.constant(flat.tolist())
    return kept.call("Gather", (line, places), (None, len(flat), *rest), axis=1)


def _scatter(
    kept: RewrittenGraph, node: NetworkNode, values: tuple[str, str], flat: Places
) -> None:
    """Puts new values into a line of old ones, at places of each example."""
    line, news = values
    _, size, *rest = kept.shape(line)
    assert size is not None
    reduction = node.attributes.get("reduction", b"none")
    if reduction == b"none":
        _check_places(node, size)
        source = np.arange(size, dtype=np.int64)
        # Of equal places NumPy lets the last one count; ONNX asks for none.
        source[flat] = size + np.arange(len(flat))
        both = (None, size + len(flat), *rest)
        joined = kept.call("Concat", (line, news), both, axis=1)
        total = _taken(kept, joined, source, tuple(rest))
    elif reduction == b"add":
        total = _added(kept, node, values, flat)
    else:
        name = reduction.decode(errors="replace")
        raise CompileError(
            f"{node.label}: reduction {name!r}; 'none' and 'add' are known, and a "
            "maximum over constant places is ReduceMax behind a Gather",
            (node.name,),
        )
    made = replace(node, kind="Reshape", inputs=(total,), attributes={})
    kept.keep(made, kept.layouts[node.inputs[0]])


def _added(
    kept: RewrittenGraph, node: NetworkNode, values: tuple[str, str], flat: Places
) -> str:
    total, news = values
    shape = kept.shape(total)
    rest = shape[2:]
    sides = (1, 1, *[side or 1 for side in rest])
    # One row of zeros behind the new values: places that a round adds nothing to take
    # that.
    zeros = kept.array("zeros", np.zeros(sides, np.float32))
    blank = kept.call("Expand", (zeros,), (None, 1, *rest))
    both = (None, len(flat) + 1, *rest)
    joined = kept.call("Concat", (news, blank), both, axis=1)
    # A Gather has a gradient rule and a scatter has none here, so that a sum over equal
    # places is as many gathers as the fullest place has values.
    for places in _rounds(node, flat, shape[1] or 0):
        taken = _taken(kept, joined, places, rest)
        total = kept.call("Add", (total, taken), shape)
    return total


def _rounds(node: NetworkNode, flat: Places, size: int) -> list[Places]:
    """For each round, which new value is added to each place, or none (the last)."""
    # Counted before a round is made: a file of a few bytes may ask for any number.
    times = int(np.unique(flat, return_counts=True)[1].max(initial=0))
    if times > _ROUNDS_MAX:
        raise CompileError(
            f"{node.label}: adds to one place more than {_ROUNDS_MAX} times; write it "
            "as a product with a matrix of zeros and ones",
            (node.name,),
        )
    _check_places(node, times * size)
    rounds = [np.full(size, len(flat), np.int64) for _ in range(times)]
    counts = np.zeros(size, np.int64)
    for index, place in enumerate(flat.tolist()):
        rounds[counts[place]][place] = index
        counts[place] += 1
    return rounds


def _check_places(node: NetworkNode, count: int) -> None:
    if count > _PLACES_MAX:
        raise CompileError(
            f"{node.label}: looks at {count:,} places of one example, "
            f"{_PLACES_MAX:,} allowed; scatter into a smaller value",
            (node.name,),
        )


_STEPS: dict[str, Callable[[RewrittenGraph, NetworkNode, _Known], None]] = {
    "Gather": _gather,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
}
