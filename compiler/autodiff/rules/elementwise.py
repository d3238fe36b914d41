"""Arithmetic on two tensors that broadcast against each other."""

from starling.compiler.autodiff.tape import Tape
from starling.compiler.ir.network import NetworkNode


def add(tape: Tape, node: NetworkNode) -> None:
    """A + b."""
    cotangent = tape.cotangent(node)
    for position in (0, 1):
        if tape.needs(node, position):
            tape.give_broadcast(node, position, cotangent)


def subtract(tape: Tape, node: NetworkNode) -> None:
    """A - b."""
    cotangent = tape.cotangent(node)
    if tape.needs(node, 0):
        tape.give_broadcast(node, 0, cotangent)
    if tape.needs(node, 1):
        tape.give_broadcast(node, 1, tape.build.unary("Neg", cotangent))


def held_forward(tape: Tape, node: NetworkNode) -> None:
    """A - b, which counts as a constant."""
    build = tape.build
    difference = build.binary("Sub", tape.input(node, 0), tape.input(node, 1))
    tape.put(node, build.held(difference))


def multiply(tape: Tape, node: NetworkNode) -> None:
    """A b."""
    cotangent = tape.cotangent(node)
    for position in (0, 1):
        if tape.needs(node, position):
            other = tape.input(node, 1 - position)
            tape.give_broadcast(node, position, tape.build.mul(cotangent, other))


def divide(tape: Tape, node: NetworkNode) -> None:
    """A / b: d/da is 1/b, d/db is -(a/b)/b."""
    build = tape.build
    share = build.binary("Div", tape.cotangent(node), tape.input(node, 1))
    if tape.needs(node, 0):
        tape.give_broadcast(node, 0, share)
    if tape.needs(node, 1):
        product = build.mul(share, tape.output(node))
        tape.give_broadcast(node, 1, build.unary("Neg", product))


def mean_forward(tape: Tape, node: NetworkNode) -> None:
    """The mean of any number of tensors, written as a sum."""
    build, shape = tape.build, tape.shape(node)
    tensors = [tape.input(node, position) for position in range(len(node.inputs))]
    total = build.op("Sum", tensors, shape)
    tape.put(node, build.mul(total, build.scalar(1.0 / len(tensors))))


def mean(tape: Tape, node: NetworkNode) -> None:
    """Each tensor gets its share of the cotangent."""
    share = tape.build.scalar(1.0 / len(node.inputs))
    cotangent = tape.build.mul(tape.cotangent(node), share)
    for position in range(len(node.inputs)):
        if tape.needs(node, position):
            tape.give_broadcast(node, position, cotangent)


def total(tape: Tape, node: NetworkNode) -> None:
    """The sum of any number of tensors."""
    for position in range(len(node.inputs)):
        if tape.needs(node, position):
            tape.give_broadcast(node, position, tape.cotangent(node))
