"""Poolings that take a norm of each window: LpPool and GlobalLpPool.

The sum of |x|^p over a window is a convolution with ones; padding adds nothing to it.
Letters: p the norm, y the output, g its cotangent.
"""

from starling.compiler.autodiff.rules.convolution.pooling import (
    spread_over_windows,
    sum_windows,
)
from starling.compiler.autodiff.rules.convolution.sliding_window import (
    SlidingWindow,
    window,
)
from starling.compiler.autodiff.tape import Tape
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode


def forward(tape: Tape, node: NetworkNode) -> None:
    """LpPool: (sum of |x|^p)^(1/p) under each window."""
    powers = _power(tape, tape.input(node, 0), _norm(node))
    total = sum_windows(tape, node, _window(tape, node), powers)
    tape.put(node, _root(tape, node, total))


def backward(tape: Tape, node: NetworkNode) -> None:
    """The slope of each value is sign(x) |x|^(p-1), times y^(1-p) of its windows."""
    shares, shape = _share(tape, node), _window(tape, node)
    spread = spread_over_windows(tape, node, shape, shares)
    inner = _inner(tape, node, tape.input(node, 0))
    tape.give(node, 0, tape.build.mul(spread, inner))


def global_forward(tape: Tape, node: NetworkNode) -> None:
    """GlobalLpPool: the norm of each whole image."""
    build, x = tape.build, tape.input(node, 0)
    axes = list(range(2, len(x.shape)))
    values = _power(tape, x, _norm(node))
    total = build.reduce("ReduceSum", values, axes, keep=True)
    tape.put(node, _root(tape, node, total))


def global_backward(tape: Tape, node: NetworkNode) -> None:
    """As for windows, with one window."""
    x = tape.input(node, 0)
    slope = _inner(tape, node, x)
    tape.give(node, 0, tape.build.mul(slope, _share(tape, node)))


def _window(tape: Tape, node: NetworkNode) -> SlidingWindow:
    return window(tape, node, tuple(node.attributes["kernel_shape"]))


def _norm(node: NetworkNode) -> int:
    return int(node.attributes.get("p", 2))


def _power(tape: Tape, x: BuilderTensor, exponent: int) -> BuilderTensor:
    """|x|^exponent, of whole exponents from 0."""
    build = tape.build
    if exponent == 2:
        return build.mul(x, x)
    size = build.unary("Abs", x)
    if exponent == 1:
        return size
    return build.op("Pow", (size, build.scalar(float(exponent))), x.shape)


def _root(tape: Tape, node: NetworkNode, total: BuilderTensor) -> BuilderTensor:
    build, norm = tape.build, _norm(node)
    if norm == 1:
        return total
    if norm == 2:
        return build.unary("Sqrt", total)
    return build.op("Pow", (total, build.scalar(1.0 / norm)), total.shape)


def _inner(tape: Tape, node: NetworkNode, x: BuilderTensor) -> BuilderTensor:
    """sign(x) |x|^(p-1)."""
    build, norm = tape.build, _norm(node)
    if norm == 2:
        return x
    sign = build.unary("Sign", x)
    return sign if norm == 1 else build.mul(sign, _power(tape, x, norm - 1))


def _share(tape: Tape, node: NetworkNode) -> BuilderTensor:
    """Cotangents times y^(1-p); windows of zeros, whose slope is 0, take them bare."""
    build, y, norm = tape.build, tape.output(node), _norm(node)
    if norm == 1:
        return tape.cotangent(node)
    # 0 over 0 would be no number, and spoil the whole sum of a batch.
    blank = build.op("Equal", (y, build.scalar(0.0)), y.shape)
    safe = build.op("Where", (blank, build.scalar(1.0), y), y.shape)
    if norm > 2:
        safe = build.op("Pow", (safe, build.scalar(norm - 1.0)), y.shape)
    return build.binary("Div", tape.cotangent(node), safe)
