"""Operators whose places are found in each example: lookups, largest values, sums."""

from starling.compiler.autodiff.tape import Tape, copy, positive_axis
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode


def gather_elements_forward(tape: Tape, node: NetworkNode) -> None:
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


def gather_elements(tape: Tape, node: NetworkNode) -> None:
    """Adds cotangents up where the values were taken from."""
    axis = node.attributes.get("axis", 0)
    # Places have no slope, whatever they were computed from.
    tape.needs(node, 1)
    _scatter(tape, node, axis, tape.input(node, 1), tape.cotangent(node))


def scatter_elements_forward(tape: Tape, node: NetworkNode) -> None:
    """Writes the operator for tensors that all have one row for each example.

    Raises:
      CompileError: If they do not, or values are put together in another way than by
        their sum.
    """
    tensors = [tape.input(node, position) for position in range(3)]
    positive_axis(tensors[0], node.attributes.get("axis", 0), node)
    if not all(tensor.batched for tensor in tensors):
        raise CompileError(
            f"{node.label}: no value of each example; "
            "repeat what belongs to none for the batch first (expand)",
            (node.name,),
        )
    if node.attributes.get("reduction", b"none") not in (b"none", b"add"):
        raise CompileError(
            f"{node.label}: knows sums alone; "
            "scatter with 'add', or into zeros with 'none'",
            (node.name,),
        )
    copy(tape, node)


def scatter_elements(tape: Tape, node: NetworkNode) -> None:
    """New values get the cotangents of their places; what was there gets the others."""
    build, cotangent = tape.build, tape.cotangent(node)
    places, updates = tape.input(node, 1), tape.input(node, 2)
    tape.needs(node, 1)
    axis = positive_axis(cotangent, node.attributes.get("axis", 0), node)
    if tape.needs(node, 2):
        inputs = (cotangent, places)
        picked = build.op("GatherElements", inputs, updates.shape, axis=axis)
        tape.give(node, 2, picked)
    if not tape.needs(node, 0):
        return
    if node.attributes.get("reduction", b"none") == b"add":
        tape.give(node, 0, cotangent)
        return
    size = build.op("Shape", (updates,), (len(updates.shape),))
    zeros = build.op("ConstantOfShape", (size,), updates.shape)
    # What was overwritten has no part in the output, so that its cotangent is 0.
    rest = build.op(
        "ScatterElements", (cotangent, places, zeros), cotangent.shape, axis=axis
    )
    tape.give(node, 0, rest)


def top_forward(tape: Tape, node: NetworkNode) -> None:
    """TopK along another axis than the batch."""
    x = tape.input(node, 0)
    positive_axis(x, node.attributes.get("axis", -1), node)
    if not x.batched:
        raise CompileError(
            f"{node.label}: sorts a weight; "
            "sort it before the export, or leave it out with --freeze",
            (node.name,),
        )
    copy(tape, node)


def top(tape: Tape, node: NetworkNode) -> None:
    """Each cotangent goes to the place of its value; places have no slope."""
    if tape.reached(node, 0):
        places = tape.values[node.outputs[1]]
        axis = node.attributes.get("axis", -1)
        _scatter(tape, node, axis, places, tape.cotangent(node))


def cumulative_forward(tape: Tape, node: NetworkNode) -> None:
    """CumSum along a constant axis other than the batch.

    Raises:
      CompileError: If the axis is computed, or is the batch.
    """
    axis = tape.constant(node, 1)
    if axis is None:
        raise CompileError(
            f"{node.label}: needs a constant axis; "
            "export the model with a constant axis",
            (node.name,),
        )
    x, build = tape.input(node, 0), tape.build
    place = positive_axis(x, int(axis.reshape(-1)[0]), node)
    # Some exporters write the axis as a vector of one.
    inputs = (x, build.reshape(build.integers(place), ()))
    attributes = {key: node.attributes.get(key, 0) for key in ("exclusive", "reverse")}
    tape.put(node, build.op("CumSum", inputs, x.shape, **attributes))


def cumulative(tape: Tape, node: NetworkNode) -> None:
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
    tape: Tape,
    node: NetworkNode,
    axis: int,
    places: BuilderTensor,
    cotangent: BuilderTensor,
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
