"""Operators whose places are found in each example: lookups, largest values, sums."""

from compiler.builder import Tensor
from compiler.errors import CompileError
from compiler.network import Node
from compiler.tape import Tape, copy, positive_axis


def gather_elements_forward(tape: Tape, node: Node) -> None:
    """Writes the operator for tensors that both have one row for each example.

    Raises:
      CompileError: If they do not, or places are looked up along the batch.
    """
    x, places = tape.input(node, 0), tape.input(node, 1)
    positive_axis(x, node.attributes.get("axis", 0), node)
    if not (x.batched and places.batched):
        raise CompileError(
            f"{node.label}: looks up a weight by places; use an embedding", (node.name,)
        )
    copy(tape, node)


def gather_elements(tape: Tape, node: Node) -> None:
    """Adds cotangents up where the values were taken from."""
    axis = node.attributes.get("axis", 0)
    _scatter(tape, node, axis, tape.input(node, 1), tape.cotangent(node))


def top_forward(tape: Tape, node: Node) -> None:
    """TopK along another axis than the batch."""
    x = tape.input(node, 0)
    positive_axis(x, node.attributes.get("axis", -1), node)
    if not x.batched:
        raise CompileError(f"{node.label}: sorts a weight", (node.name,))
    copy(tape, node)


def top(tape: Tape, node: Node) -> None:
    """Each cotangent goes to the place of its value; places have no slope."""
    if tape.reached(node, 0):
        places = tape.values[node.outputs[1]]
        axis = node.attributes.get("axis", -1)
        _scatter(tape, node, axis, places, tape.cotangent(node))


def cumulative_forward(tape: Tape, node: Node) -> None:
    """CumSum along a constant axis other than the batch.

    Raises:
      CompileError: If the axis is computed, or is the batch.
    """
    axis = tape.constant(node, 1)
    if axis is None:
        raise CompileError(f"{node.label}: needs a constant axis", (node.name,))
    positive_axis(tape.input(node, 0), int(axis.reshape(-1)[0]), node)
    copy(tape, node)


def cumulative(tape: Tape, node: Node) -> None:
    """The cotangents are summed from the other end."""
    x, cotangent = tape.input(node, 0), tape.cotangent(node)
    axis = tape.constant(node, 1)
    assert axis is not None
    place = positive_axis(x, int(axis.reshape(-1)[0]), node) + (0 if x.batched else 1)
    share = tape.build.op(
        "CumSum",
        (cotangent, tape.build.reshape(tape.build.integers(place), ())),
        cotangent.shape,
        exclusive=node.attributes.get("exclusive", 0),
        reverse=1 - node.attributes.get("reverse", 0),
    )
    tape.give(node, 0, share)


def _scatter(
    tape: Tape, node: Node, axis: int, places: Tensor, cotangent: Tensor
) -> None:
    build, x = tape.build, tape.input(node, 0)
    size = build.op("Shape", (x,), (len(x.shape),))
    zeros = build.op("ConstantOfShape", (size,), x.shape)
    spread = build.op(
        "ScatterElements",
        (zeros, places, cotangent),
        x.shape,
        axis=positive_axis(x, axis, node),
        reduction="add",
    )
    tape.give(node, 0, spread)
