"""Reductions and norms beyond sums and means, and places of the largest value."""

import math

import numpy as np

from starling.compiler.autodiff.rules.shape_operators import (
    reduced_axes,
    with_reduced_axes,
)
from starling.compiler.autodiff.tape import Tape, copy, positive_axis
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode

PRODUCT_MAX = 256
"""Values of one product: their slopes take as many products of as many values."""
_TINY = 1e-37
"""In place of a norm of 0, so that a row of zeros stays one."""


def absolute_forward(tape: Tape, node: NetworkNode) -> None:
    """ReduceL1: the sum of absolute values."""
    _put_sum(tape, node, tape.build.unary("Abs", tape.input(node, 0)))


def absolute(tape: Tape, node: NetworkNode) -> None:
    """The slope of each value is its sign."""
    build, x = tape.build, tape.input(node, 0)
    cotangent = with_reduced_axes(tape, node, tape.cotangent(node))
    tape.give(node, 0, build.mul(build.unary("Sign", x), cotangent))


def logarithm_forward(tape: Tape, node: NetworkNode) -> None:
    """ReduceLogSum: the logarithm of the sum."""
    build, x = tape.build, tape.input(node, 0)
    total = build.reduce("ReduceSum", x, reduced_axes(tape, node), keep=_keeps(node))
    tape.put(node, build.unary("Log", total))


def logarithm(tape: Tape, node: NetworkNode) -> None:
    """The slope of each value is 1 over the sum."""
    build, x = tape.build, tape.input(node, 0)
    total = build.reduce("ReduceSum", x, reduced_axes(tape, node), keep=True)
    cotangent = with_reduced_axes(tape, node, tape.cotangent(node))
    share = build.binary("Div", cotangent, total)
    tape.give(node, 0, build.mul(share, build.constant(np.ones(x.row, np.float32))))


def product(tape: Tape, node: NetworkNode) -> None:
    """ReduceProd: the slope of each value is the product of the others.

    No quotient is taken, so that values of 0 are no exception.

    Raises:
      CompileError: If a product has more than `PRODUCT_MAX` values.
    """
    build, x, axes = tape.build, tape.input(node, 0), reduced_axes(tape, node)
    rank = len(x.shape)
    order = [*[axis for axis in range(rank) if axis not in axes], *axes]
    moved = build.transpose(x, order)
    outer = moved.shape[: rank - len(axes)]
    count = math.prod([x.shape[axis] or 1 for axis in axes])
    if count > PRODUCT_MAX:
        raise CompileError(
            f"{node.label}: a product of {count} values, {PRODUCT_MAX} allowed; "
            "for positive values take the exponential of a sum of logarithms",
            (node.name,),
        )
    line = build.reshape(moved, (*outer, 1, count))
    own = build.constant(np.eye(count, dtype=np.bool_))
    square = (*outer, count, count)
    # In row i the value i is replaced by 1, so that its product is that of the others.
    others = build.op("Where", (own, build.scalar(1.0), line), square)
    slopes = build.reduce("ReduceProd", others, [len(outer) + 1])
    back = sorted(range(rank), key=order.__getitem__)
    slope = build.transpose(build.reshape(slopes, moved.shape), back)
    cotangent = with_reduced_axes(tape, node, tape.cotangent(node))
    tape.give(node, 0, build.mul(slope, cotangent))


def norm_forward(tape: Tape, node: NetworkNode) -> None:
    """LpNormalization: x over its norm along an axis; a row of zeros stays one."""
    x = tape.input(node, 0)
    tape.put(node, tape.build.binary("Div", x, _norm(tape, node)))


def norm(tape: Tape, node: NetworkNode) -> None:
    """(g - s sum(g y)) / norm, with s the sign of x for sums and y for squares."""
    build, y, cotangent = tape.build, tape.output(node), tape.cotangent(node)
    # The cotangent of a weight has one row for each example.
    axis = _norm_axis(tape, node) + (0 if y.batched else 1)
    slope = y if _squares(node) else build.unary("Sign", tape.input(node, 0))
    inner = build.mul(cotangent, y)
    shared = build.reduce("ReduceSum", inner, [axis], keep=True)
    rest = build.binary("Sub", cotangent, build.mul(slope, shared))
    tape.give(node, 0, build.binary("Div", rest, _norm(tape, node)))


def place_forward(tape: Tape, node: NetworkNode) -> None:
    """ArgMax and ArgMin along another axis than the batch."""
    positive_axis(tape.input(node, 0), node.attributes.get("axis", 0), node)
    copy(tape, node)


def hardmax_forward(tape: Tape, node: NetworkNode) -> None:
    """1 at the first largest value along an axis, else 0."""
    build, x = tape.build, tape.input(node, 0)
    axis = positive_axis(x, node.attributes.get("axis", -1), node)
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    place = build.op("ArgMax", (x,), shape, axis=axis, keepdims=1)
    size = x.shape[axis]
    assert size is not None
    tail = [1] * (len(x.shape) - axis - 1)
    numbers = build.constant(np.arange(size, dtype=np.int64).reshape(size, *tail))
    same = build.op("Equal", (numbers, place), x.shape)
    tape.put(node, build.op("Cast", (same,), x.shape, to=1))


def _put_sum(tape: Tape, node: NetworkNode, values: BuilderTensor) -> None:
    axes = reduced_axes(tape, node)
    total = tape.build.reduce("ReduceSum", values, axes, keep=_keeps(node))
    tape.put(node, total)


def _keeps(node: NetworkNode) -> bool:
    return bool(node.attributes.get("keepdims", 1))


def _norm(tape: Tape, node: NetworkNode) -> BuilderTensor:
    build, x = tape.build, tape.input(node, 0)
    kind = "ReduceL2" if _squares(node) else "ReduceSum"
    values = x if _squares(node) else build.unary("Abs", x)
    found = build.reduce(kind, values, [_norm_axis(tape, node)], keep=True)
    return build.op("Max", (found, build.scalar(_TINY)), found.shape)


def _squares(node: NetworkNode) -> bool:
    return int(node.attributes.get("p", 2)) == 2


def _norm_axis(tape: Tape, node: NetworkNode) -> int:
    return positive_axis(tape.input(node, 0), node.attributes.get("axis", -1), node)
