"""Operators that move values and change none; static inputs are weights."""

import math

import numpy as np
from numpy.typing import NDArray

from starling.compiler.autodiff.gradient_factors import merge, turned
from starling.compiler.autodiff.tape import Tape, batched_output, copy, positive_axis
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode

_LENGTH_MIN = 1e-30
"""Stands for the length of a vector of zeros, so that its slope is 0, as PyTorch's."""


def identity(tape: Tape, node: NetworkNode) -> None:
    """The same tensor."""
    tape.give(node, 0, tape.cotangent(node))


def reshape_forward(tape: Tape, node: NetworkNode) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze of each example by itself.

    Raises:
      CompileError: If examples would be joined or torn.
    """
    batched_output(tape, node)
    tensor, shape = tape.input(node, 0), tape.shape(node)
    if math.prod([size or 1 for size in shape]) != tensor.row_size:
        raise CompileError(
            f"{node.label}: changes the size of the batch; export the model with a "
            "dynamic batch axis",
            (node.name,),
        )
    tape.put(node, tape.build.reshape(tensor, shape))


def reshape(tape: Tape, node: NetworkNode) -> None:
    """Back to the shape before."""
    row = tape.input(node, 0).row
    tape.give(node, 0, tape.build.reshape(tape.cotangent(node), (None, *row)))


def transpose_forward(tape: Tape, node: NetworkNode) -> None:
    """Permutes axes; the batch axis must stay first.

    Raises:
      CompileError: If it does not.
    """
    if tape.input(node, 0).batched and _order(tape, node)[0] != 0:
        raise CompileError(
            f"{node.label}: moves the batch axis; keep it in front", (node.name,)
        )
    copy(tape, node)


def transpose(tape: Tape, node: NetworkNode) -> None:
    """The inverse permutation."""
    order = _order(tape, node)
    if not tape.input(node, 0).batched and order == [1, 0]:
        # A transposed weight keeps its two factors, so that no example's own part has
        # to be made for its norm.
        swapped = turned(merge(tape.build, tape.credits[node.outputs[0]]))
        if swapped is not None:
            tape.credit(node, 0, swapped)
            return
    if not tape.input(node, 0).batched:
        order = [0, *[axis + 1 for axis in order]]
    inverse = sorted(range(len(order)), key=order.__getitem__)
    tape.give(node, 0, tape.build.transpose(tape.cotangent(node), inverse))


def concat_forward(tape: Tape, node: NetworkNode) -> None:
    """Joins along an axis other than the batch."""
    positive_axis(tape.input(node, 0), node.attributes["axis"], node)
    copy(tape, node)


def concat(tape: Tape, node: NetworkNode) -> None:
    """Each input gets its own stretch of the cotangent."""
    build, cotangent = tape.build, tape.cotangent(node)
    first = tape.input(node, 0)
    axis = positive_axis(first, node.attributes["axis"], node)
    # The cotangent of a static value has the examples in front.
    axis += 0 if first.batched else 1
    start = 0
    for position in range(len(node.inputs)):
        row = (None, *tape.input(node, position).row)
        size = row[axis]
        assert size is not None
        if tape.needs(node, position):
            part = build.slice(cotangent, axis, start, start + size)
            tape.give(node, position, part)
        start += size


def reduce_forward(tape: Tape, node: NetworkNode) -> None:
    """ReduceMean and ReduceSum over axes other than the batch.

    Raises:
      CompileError: If the axes are not constant, or the batch is among them.
    """
    x = tape.input(node, 0)
    keep = bool(node.attributes.get("keepdims", 1))
    tape.put(node, tape.build.reduce(node.kind, x, reduced_axes(tape, node), keep=keep))


def reduce(tape: Tape, node: NetworkNode) -> None:
    """Each value gets the cotangent of its sum, or its share of the mean's."""
    build, x = tape.build, tape.input(node, 0)
    count = math.prod([x.shape[axis] or 1 for axis in reduced_axes(tape, node)])
    share = 1.0 / count if node.kind == "ReduceMean" else 1.0
    ones = build.constant(np.full(x.row, share, np.float32))
    tape.give(
        node, 0, build.mul(with_reduced_axes(tape, node, tape.cotangent(node)), ones)
    )


def reduce_extreme(tape: Tape, node: NetworkNode) -> None:
    """ReduceMax and ReduceMin: equal winners share the cotangent evenly."""
    build, x = tape.build, tape.input(node, 0)
    best = with_reduced_axes(tape, node, tape.output(node))
    equal = build.op("Equal", (x, best), x.shape)
    winners = build.op("Cast", (equal,), x.shape, to=1)
    count = build.reduce("ReduceSum", winners, reduced_axes(tape, node), keep=True)
    share = build.binary("Div", winners, count)
    tape.give(
        node, 0, build.mul(with_reduced_axes(tape, node, tape.cotangent(node)), share)
    )


def reduce_squares(tape: Tape, node: NetworkNode) -> None:
    """ReduceSumSquare: 2 x; ReduceL2: x / y, and 0 where all of x is 0."""
    build, x = tape.build, tape.input(node, 0)
    slope = build.mul(x, build.scalar(2.0))
    if node.kind == "ReduceL2":
        length = build.binary("Max", tape.output(node), build.scalar(_LENGTH_MIN))
        slope = build.binary("Div", x, with_reduced_axes(tape, node, length))
    tape.give(
        node, 0, build.mul(with_reduced_axes(tape, node, tape.cotangent(node)), slope)
    )


def reduce_exponentials(tape: Tape, node: NetworkNode) -> None:
    """ReduceLogSumExp: exp(x - y)."""
    build, x = tape.build, tape.input(node, 0)
    largest = with_reduced_axes(tape, node, tape.output(node))
    share = build.unary("Exp", build.binary("Sub", x, largest))
    tape.give(
        node, 0, build.mul(with_reduced_axes(tape, node, tape.cotangent(node)), share)
    )


def with_reduced_axes(
    tape: Tape, node: NetworkNode, tensor: BuilderTensor
) -> BuilderTensor:
    """The output's value, with size 1 along the axes that were reduced."""
    x, axes = tape.input(node, 0), reduced_axes(tape, node)
    sizes = [
        1 if axis in axes else size
        for axis, size in enumerate(x.shape)
        if size is not None
    ]
    batched = bool(tensor.shape) and tensor.shape[0] is None
    return tape.build.reshape(tensor, (None, *sizes) if batched else tuple(sizes))


def reduced_axes(tape: Tape, node: NetworkNode) -> list[int]:
    """Axes from the attribute or, in later operator sets, the constant input.

    Without any those of a weight are all of them.

    Raises:
      CompileError: If the batch would be among them, or they are computed.
    """
    given, x = node.attributes.get("axes"), tape.input(node, 0)
    if len(node.inputs) > 1 and node.inputs[1]:
        array = tape.network.constants.get(node.inputs[1])
        if array is None:
            raise CompileError(
                f"{node.label}: needs constant axes; export the model with constant "
                "axes",
                (node.name,),
            )
        given = array.tolist()
    if not given:
        if x.batched or node.attributes.get("noop_with_empty_axes", 0):
            raise CompileError(
                f"{node.label}: names no axes, so that it would take the whole batch "
                "together; name those of one example",
                (node.name,),
            )
        return list(range(len(x.shape)))
    return sorted([positive_axis(x, axis, node) for axis in given])


def triangle_forward(tape: Tape, node: NetworkNode) -> None:
    """Trilu: zeros on one side of a diagonal of the last two axes.

    Raises:
      CompileError: If the diagonal is computed, or the batch is among the axes.
    """
    build, x = tape.build, tape.input(node, 0)
    kept = build.constant(_triangle(tape, node))
    tape.put(node, build.op("Where", (kept, x, build.scalar(0.0)), x.shape))


def triangle(tape: Tape, node: NetworkNode) -> None:
    """Zeros on the same side of the cotangent."""
    build, cotangent = tape.build, tape.cotangent(node)
    kept = build.constant(_triangle(tape, node))
    zero = build.scalar(0.0)
    tape.give(node, 0, build.op("Where", (kept, cotangent, zero), cotangent.shape))


def _triangle(tape: Tape, node: NetworkNode) -> NDArray[np.bool_]:
    x, given = tape.input(node, 0), tape.constant(node, 1)
    computed = given is None and len(node.inputs) > 1 and node.inputs[1]
    height, width = x.shape[-2:]
    if computed or height is None or width is None:
        raise CompileError(
            f"{node.label}: needs a constant diagonal of each example", (node.name,)
        )
    diagonal = 0 if given is None else int(given.reshape(-1)[0])
    distance = np.arange(width) - np.arange(height)[:, None]
    upper = bool(node.attributes.get("upper", 1))
    return distance >= diagonal if upper else distance <= diagonal


def _order(tape: Tape, node: NetworkNode) -> list[int]:
    rank = len(tape.input(node, 0).shape)
    return list(node.attributes.get("perm", range(rank - 1, -1, -1)))
