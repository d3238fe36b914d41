"""Nodes whose batch axis holds several parts of each example.

The rule of the operator is asked for (n k, ...) and knows nothing of examples; what it
hands back is put into the form of n examples again. A weight's gradient is measured
for an example, not for one of its parts: the contributions of the k parts become one.

Letters: n examples, k parts of each, l positions, p and q sides of a matrix.
"""

import math
from collections import ChainMap
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from starling.compiler.autodiff.gradient_factors import (
    Blocks,
    Correlation,
    GradientFactors,
    Lookup,
    OuterProduct,
    Positions,
    RepeatedUse,
    Rows,
)
from starling.compiler.autodiff.tape import Tape
from starling.compiler.ir.graph_builder import BuilderTensor, GraphBuilder
from starling.compiler.ir.graph_writer import Shape
from starling.compiler.ir.network import NetworkNode

_Step = Callable[[Tape, NetworkNode], None]
_Value = TypeVar("_Value")


def forward(step: _Step, tape: Tape, node: NetworkNode) -> None:
    """Writes a node on (n k, ...) and names its outputs as (n, k, ...)."""
    inner, counted = _inner(tape, node)
    # Constants that a rule expands to the batch must have n k rows here, and not those
    # of x.
    with tape.build.counting(counted):
        step(inner, node)
    for name in node.outputs:
        if name in inner.values:
            shape = tape.network.shapes[name]
            tape.values[name] = tape.build.reshape(inner.values[name], shape)


def backward(step: _Step, tape: Tape, node: NetworkNode) -> None:
    """Asks the rule for what it gives to (n k, ...), and joins it for each example."""
    inner, counted = _inner(tape, node)
    build = tape.build
    for index, name in enumerate(node.outputs):
        if name and tape.reached(node, index):
            shape = _merged(tape.values[name].shape, node)
            inner.cotangents[name] = build.reshape(tape.cotangent(node, index), shape)
    with build.counting(counted):
        step(inner, node)
        joined = {
            position: [_joined(tape, use, math.prod(node.fold)) for use in uses]
            for position, uses in _given(inner.credits, node).items()
        }
    for position, uses in joined.items():
        for use in uses:
            tape.credit(node, position, use)
    for position, cotangent in _given(inner.cotangents, node).items():
        shape = (None, *tape.input(node, position).row)
        tape.give(node, position, build.reshape(cotangent, shape))


def _inner(tape: Tape, node: NetworkNode) -> tuple[Tape, BuilderTensor]:
    """A tape on which the parts of examples are the batch, and one of its values."""
    values, shapes, counted = {}, {}, []
    for name in (*node.inputs, *node.outputs):
        tensor = tape.values.get(name)
        shape = tensor.shape if tensor else tape.network.shapes.get(name)
        if not name or shape is None:
            continue
        batched = shape[:1] == (None,)
        shapes[name] = _merged(shape, node) if batched else shape
        if tensor is not None:
            values[name] = tape.build.reshape(tensor, shapes[name])
            counted += [values[name]] if batched else []
    network = replace(tape.network, shapes=ChainMap(shapes, dict(tape.network.shapes)))
    inner = replace(tape, network=network, values=values, cotangents={}, credits={})
    return inner, counted[0]


def _merged(shape: Shape, node: NetworkNode) -> Shape:
    return (None, *shape[1 + len(node.fold) :])


def _given(found: dict[str, _Value], node: NetworkNode) -> dict[int, _Value]:
    """Cotangent of each input, once for an input that is read twice."""
    return {
        node.inputs.index(name): value
        for name, value in found.items()
        if name in node.inputs
    }


def _joined(tape: Tape, use: GradientFactors, parts: int) -> GradientFactors:
    """The contributions of the parts of each example as one."""
    build = tape.build
    # Where only the sum is wanted, one row with all of it is enough.
    if tape.summed:
        size = use.total(build, None)
        return Rows(build.reshape(size, (None, size.row_size)))
    return _of_examples(build, use, parts)


def _of_examples(
    build: GraphBuilder, use: GradientFactors, parts: int
) -> GradientFactors:
    made: GradientFactors
    match use:
        case OuterProduct(left, right):
            # Parts of an example are positions of it: their outer products are added up
            # before a norm is taken.
            made = Positions(*[_apart(build, side, parts) for side in (left, right)])
        case Positions(left, right):
            made = Positions(*[_longer(build, side, parts) for side in (left, right)])
        case Lookup(indices, rows, height):
            flat = build.reshape(indices, (None, indices.row_size * parts))
            made = Lookup(flat, _longer(build, rows, parts), height)
        case Blocks(blocks):
            made = Blocks(tuple([_of_examples(build, b, parts) for b in blocks]))
        case RepeatedUse(uses):
            made = RepeatedUse(tuple([_of_examples(build, u, parts) for u in uses]))
        case Correlation(left, right) if len(left.row) == 2 and _thin(left, right):
            sides = [_side_by_side(build, side, parts) for side in (left, right)]
            made = Correlation(*sides)
        case _:
            each = _apart(build, use.rows(build), parts)
            made = Rows(build.reduce("ReduceSum", each, [1]))
    return made


def _thin(left: BuilderTensor, right: BuilderTensor) -> bool:
    """True if the factors of a product are smaller than the product."""
    (p, length), q = left.row, right.row[0]
    return p * q > length * (p + q)


def _apart(build: GraphBuilder, tensor: BuilderTensor, parts: int) -> BuilderTensor:
    """(n k, ...) to (n, k, ...)."""
    return build.reshape(tensor, (None, parts, *tensor.row))


def _longer(build: GraphBuilder, tensor: BuilderTensor, parts: int) -> BuilderTensor:
    """(n k, l, p) to (n, k l, p)."""
    length, width = tensor.row
    return build.reshape(tensor, (None, parts * length, width))


def _side_by_side(
    build: GraphBuilder, tensor: BuilderTensor, parts: int
) -> BuilderTensor:
    """(n k, p, l) to (n, p, k l)."""
    height, length = tensor.row
    moved = build.transpose(_apart(build, tensor, parts), [0, 2, 1, 3])
    return build.reshape(moved, (None, height, parts * length))
