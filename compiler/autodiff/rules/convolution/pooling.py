"""Poolings."""

import math

import numpy as np

from starling.compiler.autodiff.rules.convolution.sliding_window import (
    SlidingWindow,
    window,
)
from starling.compiler.autodiff.tape import Tape
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode


def forward(tape: Tape, node: NetworkNode) -> None:
    """Writes a pooling with its padding made explicit."""
    shape = _window(tape, node)
    attributes = {
        "kernel_shape": list(shape.kernel),
        "strides": list(shape.stride),
        "pads": shape.pads,
    }
    if node.kind == "AveragePool":
        _check_average(node, shape)
        attributes["count_include_pad"] = node.attributes.get("count_include_pad", 0)
    else:
        attributes["dilations"] = list(shape.dilation)
    outputs = [tape.shape(node)] * (2 if node.kind == "MaxPool" else 1)
    x = tape.input(node, 0)
    tape.put(node, tape.build.ops(node.kind, (x,), outputs, **attributes)[0])


def maximum(tape: Tape, node: NetworkNode) -> None:
    """Each cotangent goes to the first largest value of its window."""
    build, cotangent, x = tape.build, tape.cotangent(node), tape.input(node, 0)
    shape = _window(tape, node)
    outputs = [tape.shape(node)] * 2
    _, winners = build.ops(
        "MaxPool",
        (x,),
        outputs,
        kernel_shape=list(shape.kernel),
        strides=list(shape.stride),
        pads=shape.pads,
        dilations=list(shape.dilation),
    )
    # The indices count through the whole batch, so both sides are laid out flat.
    size = build.op("Shape", (x,), (len(x.shape),))
    zeros = build.op("ConstantOfShape", (size,), x.shape)
    spread = build.op(
        "ScatterElements",
        (build.ravel(zeros), build.ravel(winners), build.ravel(cotangent)),
        (None,),
        axis=0,
        reduction="add",
    )
    tape.give(node, 0, build.reshape(spread, x.shape))


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
    build, cotangent, x = tape.build, tape.cotangent(node), tape.input(node, 0)
    channels = x.row[0]
    counts = _counts(shape, bool(node.attributes.get("count_include_pad", 0)))
    share = build.mul(cotangent, build.constant(1.0 / counts))
    kernel = np.ones((channels, 1, *shape.kernel), np.float32)
    return build.op(
        "ConvTranspose",
        (share, build.constant(kernel)),
        x.shape,
        kernel_shape=list(shape.kernel),
        strides=list(shape.stride),
        pads=shape.pads,
        group=channels,
        output_padding=shape.surplus,
    )


def _counts(
    shape: SlidingWindow, padding_counts: bool
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """How many values each window averages, in the shape of the output."""
    counts = np.ones(shape.output, np.float32)
    for axis, output in enumerate(shape.output):
        start = np.arange(output) * shape.stride[axis] - shape.before[axis]
        stop = start + shape.kernel[axis]
        if not padding_counts:
            start, stop = np.maximum(start, 0), np.minimum(stop, shape.size[axis])
        sides = [1] * len(shape.output)
        sides[axis] = output
        counts = counts * (stop - start).astype(np.float32).reshape(sides)
    return counts


def _window(tape: Tape, node: NetworkNode) -> SlidingWindow:
    return window(tape, node, tuple(node.attributes["kernel_shape"]))


def _check_average(node: NetworkNode, shape: SlidingWindow) -> None:
    if node.attributes.get("ceil_mode", 0) or set(shape.dilation) != {1}:
        raise CompileError(
            f"{node.label}: average pooling with ceil_mode or dilation is not "
            "supported; pad the image instead",
            (node.name,),
        )
