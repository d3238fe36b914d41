"""Convolutions, alone or with the pooling that follows.

Where the weight is trained, the patches that its gradient needs also serve the way
forward, as one matrix product for each image. With a pooling of tiles behind it the
convolution is computed in the order in which it is pooled (see `im2col`), and the bias
is added after the maximum, which gives the same values on a fraction of them.

Letters: C input and M output channels, g groups, K values under one window of one
group, F windows in one pool, P pools, L = F P windows.
"""

import math
from dataclasses import replace

from starling.compiler.autodiff.gradient_factors import Correlation
from starling.compiler.autodiff.rules.convolution.im2col import patches
from starling.compiler.autodiff.rules.convolution.sliding_window import (
    SlidingWindow,
    window,
)
from starling.compiler.autodiff.tape import Tape
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor, GraphBuilder
from starling.compiler.ir.graph_writer import Attribute
from starling.compiler.ir.network import NetworkNode

_MANY_POOLS = 64
"""From this many on winners are counted by a sum; an average is faster on fewer."""


def forward(tape: Tape, node: NetworkNode) -> None:
    """Writes the convolution, from patches if its weight is trained.

    Raises:
      CompileError: If the image is not batched, or the weight is.
    """
    _check(tape, node)
    build, shape = tape.build, _window(tape, node)
    # Without a gradient by the weight no patches are needed; with groups the product
    # would be many small ones.
    if not (tape.training and tape.needs(node, 1) and _groups(node) == 1):
        inputs = tape.inputs(node)
        attributes = _attributes(node, shape)
        tape.put(node, build.op("Conv", inputs, tape.shape(node), **attributes))
        return
    product = _product(tape, node, shape, (1,) * len(shape.size))
    if len(node.inputs) > 2:
        bias = tape.input(node, 2)
        product = build.add(product, build.reshape(bias, (bias.row[0], 1)))
    tape.put(node, build.reshape(product, tape.shape(node)))


def backward(tape: Tape, node: NetworkNode) -> None:
    """Transposed convolution for the image, patches times cotangent for the weight."""
    shape = _window(tape, node)
    cotangent = tape.cotangent(node)
    if tape.needs(node, 0):
        tape.give(node, 0, _image(tape, node, shape, cotangent))
    if tape.needs(node, 1):
        _weight(tape, node, shape, (1,) * len(shape.size), cotangent)
    if tape.needs(node, 2):
        axes = list(range(2, len(cotangent.shape)))
        tape.give(node, 2, tape.build.reduce("ReduceSum", cotangent, axes))


def pooled_forward(tape: Tape, node: NetworkNode) -> None:
    """Writes a convolution and the largest value of each tile of it."""
    _check(tape, node)
    build, shape, pool = tape.build, _window(tape, node), _pool(node)
    _, largest = _tiles(tape, node, shape, pool)
    if len(node.inputs) > 2:
        bias = tape.input(node, 2)
        largest = build.add(largest, build.reshape(bias, (bias.row[0], 1, 1)))
    tape.put(node, build.reshape(largest, tape.shape(node)))


def pooled_backward(tape: Tape, node: NetworkNode) -> None:
    """As `backward`, after handing each cotangent to the largest value of its tile.

    Equal largest values share it evenly, which is a subgradient too; windows that tie
    in practice see equal patches (an even background), where sharing changes nothing.
    """
    build, shape, pool = tape.build, _window(tape, node), _pool(node)
    cotangent = tape.cotangent(node)
    channels = cotangent.row[0]
    pools = cotangent.row_size // channels
    flat = build.reshape(cotangent, (None, channels, 1, pools))
    tiles, largest = _tiles(tape, node, shape, pool)
    equal = build.op("Equal", (tiles, largest), tiles.shape)
    winners = build.op("Cast", (equal,), tiles.shape, to=1)
    # Shares of a tile add up to its cotangent, so that no norm grows by a tie.
    spread = build.mul(winners, build.binary("Div", *_shared(build, flat, winners)))
    if tape.needs(node, 0):
        tape.give(node, 0, _image(tape, node, shape, _untiled(tape, node, spread)))
    if tape.needs(node, 1):
        _weight(tape, node, shape, pool, spread)
    if tape.needs(node, 2):
        tape.give(node, 2, build.reduce("ReduceSum", flat, [2, 3]))


def _shared(
    build: GraphBuilder, cotangent: BuilderTensor, winners: BuilderTensor
) -> tuple[BuilderTensor, BuilderTensor]:
    """Two tensors whose quotient is what each of a tile's winners gets."""
    tile, pools = winners.row[1:]
    if pools >= _MANY_POOLS:
        return cotangent, build.reduce("ReduceSum", winners, [2], keep=True)
    size = [tile, 1]
    attributes = {"kernel_shape": size, "strides": size}
    mean = build.op("AveragePool", (winners,), cotangent.shape, **attributes)
    return build.mul(cotangent, build.scalar(1.0 / tile)), mean


def _product(
    tape: Tape, node: NetworkNode, shape: SlidingWindow, pool: tuple[int, ...]
) -> BuilderTensor:
    """(n, M, L): the convolution without its bias, in the order of the patches."""
    build, weight = tape.build, tape.input(node, 1)
    seen = patches(build, tape.input(node, 0), shape, pool, 1)
    return build.matmul(build.reshape(weight, (weight.row[0], seen.row[0])), seen)


def _tiles(
    tape: Tape, node: NetworkNode, shape: SlidingWindow, pool: tuple[int, ...]
) -> tuple[BuilderTensor, BuilderTensor]:
    """(n, M, F, P) of the convolution and (n, M, 1, P) of its largest values."""
    build = tape.build
    product = _product(tape, node, shape, pool)
    channels, windows = product.row
    tile = math.prod(pool)
    tiles = build.reshape(product, (None, channels, tile, windows // tile))
    return tiles, build.reduce("ReduceMax", tiles, [2], keep=True)


def _weight(
    tape: Tape,
    node: NetworkNode,
    shape: SlidingWindow,
    pool: tuple[int, ...],
    cotangent: BuilderTensor,
) -> None:
    build, groups = tape.build, _groups(node)
    seen = patches(build, tape.input(node, 0), shape, pool, groups)
    sides = (groups, cotangent.row[0] // groups) if groups > 1 else cotangent.row[:1]
    left = build.reshape(cotangent, (None, *sides, seen.row[-1]))
    tape.credit(node, 1, Correlation(left, seen))


def _untiled(tape: Tape, node: NetworkNode, tiles: BuilderTensor) -> BuilderTensor:
    """From (n, M, F, P) to the image that was pooled, without its unpooled rim.

    One axis moves at a time, the last first: ONNX Runtime copies whole rows for that.
    """
    build, pool = tape.build, _pool(node)
    counts = tape.shape(node)[2:]
    channels = tiles.row[0]
    tail = 1
    for axis in reversed(range(len(pool))):
        tile, count = pool[axis], counts[axis]
        assert count is not None
        before = (*pool[:axis], tile, *counts[:axis], count)
        rank = 2 + len(before)
        stretched = build.reshape(tiles, (None, channels, *before, tail))
        order = [0, 1, *range(2, 2 + axis), *range(3 + axis, rank), 2 + axis, rank]
        tiles = build.transpose(stretched, order)
        tail *= tile * count
    sizes = [(count or 0) * tile for count, tile in zip(counts, pool, strict=True)]
    return build.reshape(tiles, (None, channels, *sizes))


def _image(
    tape: Tape, node: NetworkNode, shape: SlidingWindow, cotangent: BuilderTensor
) -> BuilderTensor:
    """The cotangent of the image, by transposed convolution."""
    counts = cotangent.row[1:]
    reach = [
        (count - 1) * step + (width - 1) * gap + 1 - before
        for count, step, width, gap, before in zip(
            counts,
            shape.stride,
            shape.kernel,
            shape.dilation,
            shape.before,
            strict=True,
        )
    ]
    after = [end - size for end, size in zip(reach, shape.size, strict=True)]
    # Rows that a pooling left out: the operator itself makes up less than a stride.
    rows = [max(-a, 0) // step for a, step in zip(after, shape.stride, strict=True)]
    if any(rows):
        zeros = [0] * len(rows)
        grown = tuple([c + r for c, r in zip(counts, rows, strict=True)])
        pads = tape.build.integers(0, 0, *zeros, 0, 0, *rows)
        cotangent = tape.build.op(
            "Pad", (cotangent, pads), (None, cotangent.row[0], *grown)
        )
    after = [a + r * s for a, r, s in zip(after, rows, shape.stride, strict=True)]
    exact = replace(shape, after=tuple(after))
    return tape.build.op(
        "ConvTranspose",
        (cotangent, tape.input(node, 1)),
        tape.input(node, 0).shape,
        **_attributes(node, exact),
        output_padding=exact.surplus,
    )


def _check(tape: Tape, node: NetworkNode) -> None:
    if not tape.input(node, 0).batched or tape.input(node, 1).batched:
        raise CompileError(
            f"{node.label}: expected one image for each example and fixed weights; "
            "where kernels are computed from the input, write the layer as patches "
            "(unfold) and a product",
            (node.name,),
        )


def _groups(node: NetworkNode) -> int:
    return int(node.attributes.get("group", 1))


def _pool(node: NetworkNode) -> tuple[int, ...]:
    return tuple(node.attributes["pool"])


def _window(tape: Tape, node: NetworkNode) -> SlidingWindow:
    kernel = tape.input(node, 1).row[2:]
    return window(tape, node, kernel, node.attributes.get("convolved"))


def _attributes(node: NetworkNode, shape: SlidingWindow) -> dict[str, Attribute]:
    return {
        "kernel_shape": list(shape.kernel),
        "strides": list(shape.stride),
        "dilations": list(shape.dilation),
        "pads": shape.pads,
        "group": _groups(node),
    }
