"""Functions that are no activations: powers, comparisons, choices and casts."""

import numpy as np
from onnx import TensorProto

from starling.compiler.autodiff.tape import Tape, copy
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode


def nothing(_tape: Tape, _node: NetworkNode) -> None:
    """Steps and comparisons: their slope is 0 wherever they have one."""


def reciprocal(tape: Tape, node: NetworkNode) -> None:
    """1 / x: the slope is -y^2."""
    build, y = tape.build, tape.output(node)
    share = build.mul(tape.cotangent(node), build.mul(y, y))
    tape.give(node, 0, build.unary("Neg", share))


def sine(tape: Tape, node: NetworkNode) -> None:
    """The slope is the cosine."""
    build = tape.build
    slope = build.unary("Cos", tape.input(node, 0))
    tape.give(node, 0, build.mul(tape.cotangent(node), slope))


def cosine(tape: Tape, node: NetworkNode) -> None:
    """The slope is minus the sine."""
    build = tape.build
    slope = build.unary("Neg", build.unary("Sin", tape.input(node, 0)))
    tape.give(node, 0, build.mul(tape.cotangent(node), slope))


def error_function(tape: Tape, node: NetworkNode) -> None:
    """erf(x): the slope is 2 / sqrt(pi) exp(-x^2)."""
    build, x = tape.build, tape.input(node, 0)
    bell = build.unary("Exp", build.unary("Neg", build.mul(x, x)))
    slope = build.mul(bell, build.scalar(2.0 / np.sqrt(np.pi)))
    tape.give(node, 0, build.mul(tape.cotangent(node), slope))


def power_forward(tape: Tape, node: NetworkNode) -> None:
    """x^a; a constant exponent may be an integer in the model."""
    build, x, exponent = tape.build, tape.input(node, 0), _exponent(tape, node)
    tape.put(node, build.op("Pow", (x, exponent), tape.shape(node)))


def power(tape: Tape, node: NetworkNode) -> None:
    """d/dx is a x^(a - 1), d/da is y log(x); where that is infinite at 0, 0."""
    build, cotangent = tape.build, tape.cotangent(node)
    x, exponent = tape.input(node, 0), _exponent(tape, node)
    zero, one = build.scalar(0.0), build.scalar(1.0)
    if tape.needs(node, 0):
        raised = build.binary("Pow", x, build.binary("Sub", exponent, one))
        slope = build.mul(exponent, raised)
        known = tape.constant(node, 1)
        # Exponents from 1 on have no infinite slope at 0, and need no mask.
        if known is None or (known.astype(np.float32) < 1.0).any():
            blank = build.op("Equal", (x, zero), x.shape)
            steep = build.op("Less", (exponent, one), exponent.shape)
            steep = build.op("And", (blank, steep), slope.shape)
            slope = build.op("Where", (steep, zero, slope), slope.shape)
        tape.give_broadcast(node, 0, build.mul(cotangent, slope))
    if tape.needs(node, 1):
        # Of a > 0, 0^a log(0) tends to 0, but is computed as 0 times minus infinity.
        growth = build.mul(tape.output(node), build.unary("Log", x))
        base = tape.constant(node, 0)
        if base is None or (base == 0).any():
            blank = build.op("Equal", (x, zero), x.shape)
            growth = build.op("Where", (blank, zero, growth), growth.shape)
        tape.give_broadcast(node, 1, build.mul(cotangent, growth))


def _exponent(tape: Tape, node: NetworkNode) -> BuilderTensor:
    value = tape.constant(node, 1)
    if value is None:
        return tape.input(node, 1)
    return tape.build.constant(value.astype(np.float32))


def remainder_forward(tape: Tape, node: NetworkNode) -> None:
    """Mod: of real numbers x - y trunc(x / y), which has the sign of x."""
    if not node.attributes.get("fmod", 0):
        copy(tape, node)
        return
    build = tape.build
    whole = build.mul(tape.input(node, 1), _quotient(tape, node))
    tape.put(node, build.binary("Sub", tape.input(node, 0), whole))


def remainder(tape: Tape, node: NetworkNode) -> None:
    """D/dx is 1, d/dy is -trunc(x / y)."""
    build, cotangent = tape.build, tape.cotangent(node)
    if tape.needs(node, 0):
        tape.give_broadcast(node, 0, cotangent)
    if tape.needs(node, 1):
        share = build.mul(cotangent, _quotient(tape, node))
        tape.give_broadcast(node, 1, build.unary("Neg", share))


def _quotient(tape: Tape, node: NetworkNode) -> BuilderTensor:
    """Trunc(x / y)."""
    build = tape.build
    quotient = build.binary("Div", tape.input(node, 0), tape.input(node, 1))
    whole = build.unary("Floor", build.unary("Abs", quotient))
    return build.mul(whole, build.unary("Sign", quotient))


def exclusive_forward(tape: Tape, node: NetworkNode) -> None:
    """Xor, written as inequality."""
    build, shape = tape.build, tape.shape(node)
    same = build.op("Equal", (tape.input(node, 0), tape.input(node, 1)), shape)
    tape.put(node, build.unary("Not", same))


def where(tape: Tape, node: NetworkNode) -> None:
    """The chosen side takes the cotangent."""
    build, cotangent = tape.build, tape.cotangent(node)
    condition, zero = tape.input(node, 0), build.scalar(0.0)
    shape = cotangent.shape
    if tape.needs(node, 1):
        chosen = build.op("Where", (condition, cotangent, zero), shape)
        tape.give_broadcast(node, 1, chosen)
    if tape.needs(node, 2):
        chosen = build.op("Where", (condition, zero, cotangent), shape)
        tape.give_broadcast(node, 2, chosen)


def extreme(tape: Tape, node: NetworkNode) -> None:
    """Max and Min: equal winners share the cotangent evenly."""
    build, y = tape.build, tape.output(node)
    winners = []
    for name in node.inputs:
        equal = build.op("Equal", (tape.values[name], y), y.shape)
        winners.append(build.op("Cast", (equal,), y.shape, to=1))
    count = build.op("Sum", winners, y.shape)
    share = build.binary("Div", tape.cotangent(node), count)
    for position, winner in enumerate(winners):
        if tape.needs(node, position):
            tape.give_broadcast(node, position, build.mul(share, winner))


def cast_forward(tape: Tape, node: NetworkNode) -> None:
    """To float32, whole numbers or truth values.

    Raises:
      CompileError: If to another precision.
    """
    known = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    if node.attributes["to"] not in known:
        raise CompileError(
            f"{node.label}: graphs compute in float32 alone; leave the cast out of "
            "the model",
            (node.name,),
        )
    copy(tape, node)


def cast(tape: Tape, node: NetworkNode) -> None:
    """From float32 to float32 the same; whole numbers have no slope."""
    if node.attributes["to"] == TensorProto.FLOAT:
        tape.give(node, 0, tape.cotangent(node))
