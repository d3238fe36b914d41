"""Tangent, hyperbolic functions, and the inverse of both kinds."""

from starling.compiler.autodiff.tape import Tape
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode


def tangent(tape: Tape, node: NetworkNode) -> None:
    """The slope of the tangent is 1 + y^2."""
    build, y = tape.build, tape.output(node)
    slope = build.add(build.mul(y, y), build.scalar(1.0))
    tape.give(node, 0, build.mul(tape.cotangent(node), slope))


def hyperbolic_sine(tape: Tape, node: NetworkNode) -> None:
    """The slope is the hyperbolic cosine."""
    build = tape.build
    slope = build.unary("Cosh", tape.input(node, 0))
    tape.give(node, 0, build.mul(tape.cotangent(node), slope))


def hyperbolic_cosine(tape: Tape, node: NetworkNode) -> None:
    """The slope is the hyperbolic sine."""
    build = tape.build
    slope = build.unary("Sinh", tape.input(node, 0))
    tape.give(node, 0, build.mul(tape.cotangent(node), slope))


def arc_sine(tape: Tape, node: NetworkNode) -> None:
    """The slope is 1 / sqrt(1 - x^2)."""
    build = tape.build
    rest = build.binary("Sub", build.scalar(1.0), _square(tape, node))
    tape.give(node, 0, _divided(tape, node, build.unary("Sqrt", rest)))


def arc_cosine(tape: Tape, node: NetworkNode) -> None:
    """The slope is -1 / sqrt(1 - x^2)."""
    build = tape.build
    rest = build.binary("Sub", build.scalar(1.0), _square(tape, node))
    share = _divided(tape, node, build.unary("Sqrt", rest))
    tape.give(node, 0, build.unary("Neg", share))


def arc_tangent(tape: Tape, node: NetworkNode) -> None:
    """The slope is 1 / (1 + x^2)."""
    build = tape.build
    whole = build.add(_square(tape, node), build.scalar(1.0))
    tape.give(node, 0, _divided(tape, node, whole))


def area_sine(tape: Tape, node: NetworkNode) -> None:
    """The inverse of the hyperbolic sine: the slope is 1 / sqrt(x^2 + 1)."""
    build = tape.build
    whole = build.add(_square(tape, node), build.scalar(1.0))
    tape.give(node, 0, _divided(tape, node, build.unary("Sqrt", whole)))


def area_cosine(tape: Tape, node: NetworkNode) -> None:
    """The inverse of the hyperbolic cosine: the slope is 1 / sqrt(x^2 - 1)."""
    build = tape.build
    rest = build.binary("Sub", _square(tape, node), build.scalar(1.0))
    tape.give(node, 0, _divided(tape, node, build.unary("Sqrt", rest)))


def area_tangent(tape: Tape, node: NetworkNode) -> None:
    """The inverse of the hyperbolic tangent: the slope is 1 / (1 - x^2)."""
    build = tape.build
    rest = build.binary("Sub", build.scalar(1.0), _square(tape, node))
    tape.give(node, 0, _divided(tape, node, rest))


def _square(tape: Tape, node: NetworkNode) -> BuilderTensor:
    x = tape.input(node, 0)
    return tape.build.mul(x, x)


def _divided(tape: Tape, node: NetworkNode, by: BuilderTensor) -> BuilderTensor:
    return tape.build.binary("Div", tape.cotangent(node), by)
