"""Operators that work along axes, told the axes under which their values are kept."""

from dataclasses import replace
from string import ascii_letters

import numpy as np

from starling.compiler.ir.einsum_equation import spelt
from starling.compiler.ir.network import Array, NetworkNode
from starling.compiler.rewrite.batch import batch_parts
from starling.compiler.rewrite.batch.batch_layout import BatchLayout
from starling.compiler.rewrite.batch.batch_rewriter import RewrittenGraph, refuse

_ENDLESS = (1 << 31) - 1
"""From here on a stop means the end, as exporters write it."""
_ALONG_BATCH = {"Concat": batch_parts.join, "Split": batch_parts.split}
_AXIS = {"ArgMax": 0, "ArgMin": 0, "Gather": 0, "GatherElements": 0, "Split": 0}
"""Where an operator's axis is not the last by default."""


def transpose(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Permutes the axes that are kept for those of the model."""
    source = kept.layouts[node.inputs[0]]
    rank = len(source.sizes)
    order = list(node.attributes.get("perm", range(rank - 1, -1, -1)))
    target = BatchLayout(
        tuple([source.sizes[axis] for axis in order]),
        order.index(source.batch),
        source.before,
    )
    # The batch stays the first kept axis whatever the model does with its own: only
    # what stands inside the batch axis moves along.
    places = [0, *[place for axis in order for place in source.places(axis)]]
    kept.keep(replace(node, attributes={"perm": places}), target)


def along_axis(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Operators with an attribute `axis`, which may not be the batch."""
    names = kept.batched(node)
    source = kept.layouts[names[0]]
    axis = node.attributes.get("axis", _AXIS.get(node.kind, -1))
    place = source.place(axis)
    # A layer normalisation takes all axes from this one on.
    inside = node.kind == "LayerNormalization"
    inside = inside and source.batch >= axis % len(source.sizes)
    # Whole batches behind each other still keep examples apart, so that only these two
    # may work along the batch.
    if place is None and node.kind in _ALONG_BATCH:
        _ALONG_BATCH[node.kind](kept, node)
        return
    if place is None or inside:
        raise refuse(node)
    before = kept.before(node, names)
    inputs = [kept.relaid(name, before) for name in node.inputs]
    made = replace(
        node, inputs=tuple(inputs), attributes={**node.attributes, "axis": place}
    )
    kept.keep(made, *_outputs(kept, node, before))


def gather(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Constant places of a batched tensor, or rows of a table for each example."""
    indices = kept.layouts.get(node.inputs[1])
    if indices is None:
        along_axis(kept, node)
        return
    axis = node.attributes.get("axis", 0)
    # Places that follow the batch, looked up in a batched value, would let one example
    # read another.
    if node.inputs[0] in kept.layouts or axis != 0:
        raise refuse(node)
    kept.keep(node, *_outputs(kept, node, indices.before))


def reduce(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Reductions over constant axes, which may not be the batch."""
    source = kept.layouts[node.inputs[0]]
    axes = node.attributes.get("axes")
    given = _constant(kept, node, 1)
    axes = given.tolist() if given is not None else axes
    # Without axes ONNX reduces over all of them, the batch too.
    if axes is None:
        raise refuse(node)
    places = [source.place(axis) for axis in axes]
    if None in places:
        raise refuse(node)
    attributes = {k: v for k, v in node.attributes.items() if k != "axes"}
    made = kept.constant([place for place in places if place is not None])
    changed = replace(node, inputs=(node.inputs[0], made), attributes=attributes)
    kept.keep(changed, *_outputs(kept, node, source.before))


def slices(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Slices with constant bounds along other axes than the batch."""
    source = kept.layouts[node.inputs[0]]
    bounds = [_constant(kept, node, position) for position in range(1, 5)]
    if bounds[0] is None or bounds[1] is None:
        raise refuse(node)
    starts, stops = bounds[0].tolist(), bounds[1].tolist()
    axes = list(range(len(starts))) if bounds[2] is None else bounds[2].tolist()
    steps = [1] * len(starts) if bounds[3] is None else bounds[3].tolist()
    rows = []
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        place = source.place(axis)
        if place is not None:
            rows.append((start, stop, place, step))
        # Along the batch only a slice that takes every example, in order, leaves each
        # row its own.
        elif (start, step) != (0, 1) or stop < _ENDLESS:
            raise refuse(node)
    names = [kept.constant(list(column)) for column in zip(*rows, strict=True)]
    kind = "Slice" if rows else "Identity"
    made = replace(node, kind=kind, inputs=(node.inputs[0], *names))
    kept.keep(made, *_outputs(kept, node, source.before))


def cumulative(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Running sums along a constant axis."""
    source, axis = kept.layouts[node.inputs[0]], _constant(kept, node, 1)
    place = None if axis is None else source.place(int(axis.reshape(-1)[0]))
    if place is None:
        raise refuse(node)
    made = kept.array("axis", np.array(place, np.int64))
    changed = replace(node, inputs=(node.inputs[0], made))
    kept.keep(changed, *_outputs(kept, node, source.before))


def tile(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Copies side by side, a constant number of them along each axis."""
    source, repeats = kept.layouts[node.inputs[0]], _constant(kept, node, 1)
    if repeats is None:
        raise refuse(node)
    if repeats[source.batch] != 1:
        batch_parts.repeat(kept, node, repeats.tolist())
        return
    counts = [1] * len(source.shape)
    for axis, count in enumerate(repeats.tolist()):
        # A count of 1 along the batch axis is all that gets here: its parts are never
        # tiled.
        for place in source.places(axis):
            counts[place] = count
    made = replace(node, inputs=(node.inputs[0], kept.constant(counts)))
    kept.keep(made, *_outputs(kept, node, source.before))


def pad(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Constant margins around other axes than the batch."""
    source, pads = kept.layouts[node.inputs[0]], _constant(kept, node, 1)
    axes, rank = _constant(kept, node, 3), len(source.shape)
    if pads is None:
        raise refuse(node)
    chosen = range(len(source.sizes)) if axes is None else axes.tolist()
    margins, half = [0] * 2 * rank, len(pads) // 2
    for index, axis in enumerate(chosen):
        place = source.place(axis)
        before, after = int(pads[index]), int(pads[half + index])
        if place is not None:
            margins[place], margins[rank + place] = before, after
        elif before or after:
            raise refuse(node)
    made = (node.inputs[0], kept.constant(margins), *node.inputs[2:3])
    kept.keep(replace(node, inputs=made), *_outputs(kept, node, source.before))


def einsum(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Products and sums over letters: that of the batch comes first.

    What else its axis holds gets letters of its own.
    """
    equation = node.attributes["equation"].decode(errors="replace")
    ranks = [len(kept.extents[name].sizes) for name in node.inputs]
    found, extent = spelt(equation, ranks), kept.output(node)
    before = kept.before(node, kept.batched(node))
    if found is None or extent.batch is None:
        raise refuse(node)
    terms, result = found
    letter = result[extent.batch]
    target = BatchLayout(extent.sizes, extent.batch, before)
    fresh = [c for c in ascii_letters if c not in "".join(terms)]
    inside = "".join(fresh[: len(target.parts[target.batch])])
    changed, inputs = [], []
    for name, term in zip(node.inputs, terms, strict=True):
        layout = kept.layouts.get(name)
        own = letter if layout is None else term[layout.batch : layout.batch + 1]
        # The batch's letter may stand in batched operands alone, and at their batch
        # axis: elsewhere the product sums over examples or pairs them.
        if (layout is None) == (letter in term) or own != letter:
            raise refuse(node)
        changed.append(term if layout is None else _moved(term, letter, inside))
        inputs.append(kept.relaid(name, before))
    text = f"{','.join(changed)}->{_moved(result, letter, inside)}"
    attributes = {**node.attributes, "equation": text.encode()}
    made = replace(node, inputs=tuple(inputs), attributes=attributes)
    kept.keep(made, target)


def _moved(term: str, letter: str, inside: str) -> str:
    return letter + term.replace(letter, inside)


def _constant(kept: RewrittenGraph, node: NetworkNode, position: int) -> Array | None:
    if position >= len(node.inputs):
        return None
    return kept.constants.get(node.inputs[position])


def _outputs(kept: RewrittenGraph, node: NetworkNode, before: int) -> list[BatchLayout]:
    """The layouts of all outputs.

    Raises:
      CompileError: If one of them lost the batch.
    """
    layouts = []
    for name in [name for name in node.outputs if name]:
        extent = kept.extents[name]
        if extent.batch is None:
            raise refuse(node)
        layouts.append(BatchLayout(extent.sizes, extent.batch, before))
    return layouts
