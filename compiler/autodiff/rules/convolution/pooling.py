"""Poolings.

An average with dilation, or whose last window reaches beyond the padding (rounding
up), is written as a convolution with ones over a count for each window: runtimes have
disagreed about what they divide by.
"""

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray

from starling.compiler.autodiff.rules.convolution.sliding_window import (
    SlidingWindow,
    window,
)
from starling.compiler.autodiff.tape import Tape
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor, GraphBuilder
from starling.compiler.ir.network import NetworkNode

Ones = NDArray[np.float32]


def forward(tape: Tape, node: NetworkNode) -> None:
    """Writes a pooling with its padding made explicit."""
    shape, x = _window(tape, node), tape.input(node, 0)
    if node.kind == "AveragePool" and not _as_average(node, shape):
        tape.put(node, _averaged(tape, node, shape))
        return
    attributes = {
        "kernel_shape": list(shape.kernel),
        "strides": list(shape.stride),
        "pads": shape.pads,
    }
    if node.kind == "AveragePool":
        attributes["count_include_pad"] = node.attributes.get("count_include_pad", 0)
    else:
        attributes["dilations"] = list(shape.dilation)
    outputs = [tape.shape(node)] * (2 if node.kind == "MaxPool" else 1)
    tape.put(node, *tape.build.ops(node.kind, (x,), outputs, **attributes))


def maximum(tape: Tape, node: NetworkNode) -> None:
    """Each cotangent goes to the first largest value of its window."""
    build, cotangent, x = tape.build, tape.cotangent(node), tape.input(node, 0)
    shape = _window(tape, node)
    outputs = [tape.shape(node)] * 2
    # The node that `forward` wrote: equal ones are in the graph once, and its second
    # output says where the largest values were.
    _, winners = build.ops(
        "MaxPool",
        (x,),
        outputs,
        kernel_shape=list(shape.kernel),
        strides=list(shape.stride),
        pads=shape.pads,
        dilations=list(shape.dilation),
    )
    size = build.op("Shape", (x,), (len(x.shape),))
    zeros = build.op("ConstantOfShape", (size,), x.shape)
    tape.give(node, 0, _spread_out(build, cotangent, winners, zeros))


def unpool_forward(tape: Tape, node: NetworkNode) -> None:
    """MaxUnpool: values at the places that a MaxPool took them from, else zeros.

    Raises:
      CompileError: If the places are not those of examples.
    """
    build, x, places = tape.build, tape.input(node, 0), tape.input(node, 1)
    shape = tape.shape(node)
    if not (x.batched and places.batched):
        raise CompileError(
            f"{node.label}: expected one image for each example; reshape its input "
            "to (batch, channels, ...)",
            (node.name,),
        )
    rows = build.op("Shape", (x,), (1,), start=0, end=1)
    sizes = [size for size in shape if size is not None]
    size = build.concat([rows, build.integers(*sizes)], 0)
    zeros = build.op("Expand", (build.scalar(0.0), size), shape)
    tape.put(node, _spread_out(build, x, places, zeros))


def unpool(tape: Tape, node: NetworkNode) -> None:
    """Each value gets the cotangent of its place."""
    build, places = tape.build, tape.input(node, 1)
    # Says that places were seen to: they have no slope, and the check for a missing
    # gradient would refuse them.
    tape.needs(node, 1)
    flat = build.ravel(tape.cotangent(node))
    picked = build.op("Gather", (flat, places), places.shape, axis=0)
    tape.give(node, 0, picked)


def _spread_out(
    build: GraphBuilder,
    values: BuilderTensor,
    places: BuilderTensor,
    zeros: BuilderTensor,
) -> BuilderTensor:
    """Values added up at places of the whole batch, laid out flat; else zeros."""
    # Places count through the whole batch, as MaxPool gives them, so examples meet in
    # one row and still keep apart.
    spread = build.op(
        "ScatterElements",
        (build.ravel(zeros), build.ravel(places), build.ravel(values)),
        (None,),
        axis=0,
        reduction="add",
    )
    return build.reshape(spread, zeros.shape)


def average(tape: Tape, node: NetworkNode) -> None:
    """Each cotangent is shared out evenly over its window."""
    shape = _window(tape, node)
    tape.give(node, 0, _spread(tape, node, shape))


def global_average(tape: Tape, node: NetworkNode) -> None:
    """Each cotangent is shared out evenly over the image."""
    build, x = tape.build, tape.input(node, 0)
    area = math.prod(x.row[1:])
    share = build.mul(tape.cotangent(node), build.scalar(1.0 / area))
    size = build.op("Shape", (x,), (len(x.shape),))
    tape.give(node, 0, build.op("Expand", (share, size), x.shape))


def global_maximum(tape: Tape, node: NetworkNode) -> None:
    """The largest values of each image share its cotangent evenly."""
    build, x = tape.build, tape.input(node, 0)
    equal = build.op("Equal", (x, tape.output(node)), x.shape)
    winners = build.op("Cast", (equal,), x.shape, to=1)
    axes = list(range(2, len(x.shape)))
    count = build.reduce("ReduceSum", winners, axes, keep=True)
    share = build.binary("Div", tape.cotangent(node), count)
    tape.give(node, 0, build.mul(winners, share))


def _spread(tape: Tape, node: NetworkNode, shape: SlidingWindow) -> BuilderTensor:
    build, cotangent = tape.build, tape.cotangent(node)
    counts = build.constant(1.0 / _counts(node, shape))
    return spread_over_windows(tape, node, shape, build.mul(cotangent, counts))


def spread_over_windows(
    tape: Tape, node: NetworkNode, shape: SlidingWindow, shares: BuilderTensor
) -> BuilderTensor:
    """Each window's share at each of its values, added up where windows overlap."""
    build, x = tape.build, tape.input(node, 0)
    return build.op(
        "ConvTranspose",
        (shares, build.constant(_ones(x, shape))),
        x.shape,
        kernel_shape=list(shape.kernel),
        strides=list(shape.stride),
        dilations=list(shape.dilation),
        pads=shape.pads,
        group=x.row[0],
        output_padding=shape.surplus,
    )


def _averaged(tape: Tape, node: NetworkNode, shape: SlidingWindow) -> BuilderTensor:
    total = sum_windows(tape, node, shape, tape.input(node, 0))
    return tape.build.mul(total, tape.build.constant(1.0 / _counts(node, shape)))


def sum_windows(
    tape: Tape, node: NetworkNode, shape: SlidingWindow, values: BuilderTensor
) -> BuilderTensor:
    """Sum of each window of values that lie as the node's input does."""
    build = tape.build
    return build.op(
        "Conv",
        (values, build.constant(_ones(values, shape))),
        tape.shape(node),
        kernel_shape=list(shape.kernel),
        strides=list(shape.stride),
        dilations=list(shape.dilation),
        pads=shape.pads,
        group=values.row[0],
    )


def _ones(x: BuilderTensor, shape: SlidingWindow) -> Ones:
    """(channels, 1, ...): kernels that add up each window of each channel."""
    return np.ones((x.row[0], 1, *shape.kernel), np.float32)


def _counts(node: NetworkNode, shape: SlidingWindow) -> Ones:
    """Number of values that each window averages, in the shape of the output.

    Padding counts where `count_include_pad` says so, but for what rounding up adds.
    """
    counted = bool(node.attributes.get("count_include_pad", 0))
    counts = np.ones(shape.output, np.float32)
    for axis, output in enumerate(shape.output):
        first, last = 0, shape.size[axis]
        if counted:
            first, last = -shape.before[axis], last + _declared(node, shape, axis)
        found = np.zeros(output, np.float32)
        for index, value in product(range(output), range(shape.kernel[axis])):
            place = index * shape.stride[axis] + value * shape.dilation[axis]
            found[index] += first <= place - shape.before[axis] < last
        sides = [1] * len(shape.output)
        sides[axis] = output
        counts = counts * found.reshape(sides)
    # A window over padding alone averages nothing: its sum of 0 stays 0.
    return np.maximum(counts, 1.0).astype(np.float32)


def _declared(node: NetworkNode, shape: SlidingWindow, axis: int) -> int:
    """The padding behind an axis that the model asks for."""
    pads, rank = node.attributes.get("pads"), len(shape.size)
    automatic = node.attributes.get("auto_pad", b"NOTSET")
    if automatic not in (b"NOTSET", b"VALID"):
        return max(shape.after[axis], 0)
    return int(pads[rank + axis]) if pads and automatic == b"NOTSET" else 0


def _as_average(node: NetworkNode, shape: SlidingWindow) -> bool:
    """True if all runtimes agree about the operator's own averages."""
    rounded = any(
        shape.after[axis] > _declared(node, shape, axis)
        for axis in range(len(shape.size))
    )
    # Dilation came to the operator in set 19, and what rounding up divides by differs.
    return set(shape.dilation) == {1} and not rounded


def _window(tape: Tape, node: NetworkNode) -> SlidingWindow:
    return window(tape, node, tuple(node.attributes["kernel_shape"]))
