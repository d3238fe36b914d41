"""Columns that become an image again: Col2Im, written as a transposed convolution."""

import math
from dataclasses import replace

import numpy as np

from starling.compiler.errors import CompileError
from starling.compiler.ir.network import NetworkNode
from starling.compiler.rewrite.batch.batch_layout import BatchLayout
from starling.compiler.rewrite.batch.batch_rewriter import RewrittenGraph, refuse


def lowered(kept: RewrittenGraph, node: NetworkNode) -> bool:
    """Takes over a Col2Im; says whether the node was one.

    Raises:
      CompileError: If its sizes are computed, or do not fit its input.
    """
    if node.kind != "Col2Im":
        return False
    sizes, block = [kept.constants.get(name) for name in node.inputs[1:3]]
    layout, extent = kept.layouts.get(node.inputs[0]), kept.output(node)
    if sizes is None or block is None:
        raise CompileError(
            f"{node.label}: its sizes are computed; export the model with "
            "constant sizes",
            (node.name,),
        )
    if layout is None or layout.batch != 0 or extent.batch != 0:
        raise refuse(node)
    kernel, image = block.tolist(), sizes.tolist()
    counts, surplus = _windows(node, image, kernel)
    size = math.prod(kernel)
    channels = layout.sizes[1] // size
    # Channels do not meet, so that they are more of the batch.
    parts = (*layout.parts[0], channels)
    columns = kept.reshaped(node.inputs[0], (None, *parts, size, *counts))
    # Each value of a block has a kernel of its own, which puts it in its place.
    places = np.eye(size, dtype=np.float32).reshape(size, 1, *kernel)
    kernels = kept.array("block", places)
    attributes = {
        key: list(node.attributes[key])
        for key in ("dilations", "pads", "strides")
        if key in node.attributes
    }
    attributes["output_padding"] = surplus
    made = f"{node.outputs[0]}/image"
    kept.made[made] = (None, *parts, 1, *image)
    inputs = (columns, kernels)
    kept.nodes.append(
        NetworkNode("ConvTranspose", node.name, inputs, (made,), attributes, fold=parts)
    )
    reshaped = replace(node, kind="Reshape", inputs=(made,), attributes={})
    kept.keep(reshaped, BatchLayout(extent.sizes, 0, layout.before))
    return True


def _windows(
    node: NetworkNode, image: list[int], kernel: list[int]
) -> tuple[list[int], list[int]]:
    """Number of windows along each axis, and the rest that they do not reach."""
    rank = len(image)
    strides = node.attributes.get("strides", [1] * rank)
    dilations = node.attributes.get("dilations", [1] * rank)
    pads = node.attributes.get("pads", [0] * 2 * rank)
    counts, surplus = [], []
    for axis in range(rank):
        padded = image[axis] + pads[axis] + pads[rank + axis]
        span = (kernel[axis] - 1) * dilations[axis] + 1
        count, rest = divmod(padded - span, strides[axis])
        counts.append(count + 1)
        surplus.append(rest)
    return counts, surplus
