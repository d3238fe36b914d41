"""Operators whose batch axis holds several parts of each example.

Segments, channels or heads are often folded into the batch: a convolution then sees
(n k, ...) where k parts belong to one example. What is kept is (n, k, ...). The node
takes both axes as its batch, and what it gives is kept in the same way;
`autodiff.rules.folded_batch` writes it, and joins the k parts of an example where its
gradient is measured.
"""

from dataclasses import replace

from starling.compiler.ir.network import NetworkNode
from starling.compiler.rewrite.batch.batch_layout import BatchLayout
from starling.compiler.rewrite.batch.batch_rewriter import RewrittenGraph, refuse


def fold(kept: RewrittenGraph, node: NetworkNode, *, anywhere: bool = False) -> None:
    """Takes over a node that treats the rows of its batch axis one by one.

    Args:
      kept: The model in the making.
      node: Whose rule keeps examples apart where the batch is plain.
      anywhere: Whether its rule expects the batch first though the operator has it
        elsewhere, as those of recurrent layers do.

    Raises:
      CompileError: If inputs and outputs hold the batch in different ways.
    """
    names = kept.batched(node)
    outputs = [kept.extents[name] for name in node.outputs if name in kept.extents]
    if not names or any(extent.batch is None for extent in outputs):
        raise refuse(node)
    layouts = [kept.layouts[name] for name in names]
    times = {layout.sizes[layout.batch] for layout in layouts}
    times |= {extent.sizes[extent.batch or 0] for extent in outputs}
    axes = {layout.batch for layout in layouts} | {e.batch for e in outputs}
    if len(times) > 1 or (axes != {0} and not anywhere):
        raise refuse(node)
    before = kept.before(node, names)
    inputs = [_front(kept, name, before) for name in node.inputs]
    first = BatchLayout(layouts[0].sizes, layouts[0].batch, before)
    made = replace(node, inputs=tuple(inputs), fold=first.parts[first.batch])
    _with_outputs(kept, made, before)


def _front(kept: RewrittenGraph, name: str, before: int) -> str:
    """An input whose parts of the batch axis stand behind the batch."""
    if name not in kept.layouts:
        return name
    name = kept.relaid(name, before)
    order = _order(kept.layouts[name])
    return name if order == sorted(order) else kept.transposed(name, order)


def _order(layout: BatchLayout) -> list[int]:
    """Order of the kept axes once the parts of the batch axis come first."""
    inside = list(layout.places(layout.batch))
    rest = [axis for axis in range(1, len(layout.shape)) if axis not in inside]
    return [0, *inside, *rest]


def _with_outputs(kept: RewrittenGraph, node: NetworkNode, before: int) -> None:
    """Adds the node, and moves the parts of its outputs to where they are kept."""
    names, moved = [], []
    for name in node.outputs:
        extent = kept.extents.get(name)
        if extent is None or extent.batch is None:
            names.append(name)
            continue
        layout = BatchLayout(extent.sizes, extent.batch, before)
        order = _order(layout)
        kept.layouts[name] = layout
        front = name
        if order != sorted(order):
            front = f"{name}/folded"
            kept.made[front] = tuple([layout.shape[axis] for axis in order])
            back = sorted(range(len(order)), key=order.__getitem__)
            moved.append((front, back, name))
        names.append(front)
    kept.nodes.append(replace(node, outputs=tuple(names)))
    for front, back, name in moved:
        kept.transposed(front, back, name)
