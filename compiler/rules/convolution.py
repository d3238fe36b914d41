"""Convolutions over one or two axes.

Letters: C input and M output channels, g groups, K values under one window of one
group, L windows.
"""

import numpy as np

from compiler.builder import Builder, Tensor
from compiler.contribution import Correlation
from compiler.errors import CompileError
from compiler.network import Node
from compiler.rules.window import Window, pad, positions, window
from compiler.tape import Tape


def forward(tape: Tape, node: Node) -> None:
    """Writes the convolution with its padding made explicit.

    Raises:
      CompileError: If the image is not batched, or the weight is.
    """
    x, weight = tape.input(node, 0), tape.input(node, 1)
    if not x.batched or weight.batched:
        raise CompileError(
            f"{node.label}: expected one image for each example and fixed weights",
            (node.name,),
        )
    shape = _window(tape, node)
    attributes = _attributes(node, shape)
    output = tape.build.op("Conv", tape.inputs(node), tape.shape(node), **attributes)
    tape.put(node, output)


def backward(tape: Tape, node: Node) -> None:
    """Transposed convolution for the image, patches times cotangent for the weight."""
    build, cotangent = tape.build, tape.cotangent(node)
    shape = _window(tape, node)
    if tape.needs(node, 0):
        tape.give(node, 0, _image(tape, node, shape))
    if tape.needs(node, 1):
        groups = node.attributes.get("group", 1)
        patches = _patches(build, tape.input(node, 0), shape, groups)
        channels = cotangent.row[0] // groups
        left = build.reshape(cotangent, (None, groups, channels, shape.count))
        tape.credit(node, 1, Correlation(left, patches))
    if tape.needs(node, 2):
        axes = list(range(2, len(cotangent.shape)))
        tape.give(node, 2, build.reduce("ReduceSum", cotangent, axes))


def _window(tape: Tape, node: Node) -> Window:
    return window(tape, node, tape.input(node, 1).row[2:])


def _attributes(node: Node, shape: Window) -> dict[str, int | list[int]]:
    return {
        "kernel_shape": list(shape.kernel),
        "strides": list(shape.stride),
        "dilations": list(shape.dilation),
        "pads": shape.pads,
        "group": node.attributes.get("group", 1),
    }


def _image(tape: Tape, node: Node, shape: Window) -> Tensor:
    """The cotangent of the image."""
    inputs = (tape.cotangent(node), tape.input(node, 1))
    return tape.build.op(
        "ConvTranspose",
        inputs,
        tape.input(node, 0).shape,
        **_attributes(node, shape),
        output_padding=shape.surplus,
    )


def _patches(build: Builder, x: Tensor, shape: Window, groups: int) -> Tensor:
    """(n, g, K, L): what each window sees."""
    padded = pad(build, x, shape)
    area = padded.row_size // padded.row[0]
    where = positions(shape)
    image = build.reshape(padded, (None, padded.row[0], area))
    kernel, count = where.shape
    seen = build.op(
        "Gather",
        (image, build.constant(where.reshape(-1))),
        (None, padded.row[0], where.size),
        axis=2,
    )
    values = padded.row[0] // groups * kernel
    assert where.dtype == np.int64
    return build.reshape(seen, (None, groups, values, count))
