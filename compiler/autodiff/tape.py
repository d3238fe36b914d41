"""The forward pass as it is written, and what flows back along it.

A rule reads the values of a node, writes operators with the builder and hands back
cotangents: the derivative of each example's loss by a batched value, of the value's own
shape. A parameter has no batch axis, so what reaches it is a `GradientFactors` of one
part per example instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from starling.compiler.autodiff.gradient_factors import GradientFactors, Rows, merge
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor, GraphBuilder
from starling.compiler.ir.graph_writer import Shape
from starling.compiler.ir.network import Array, Network, NetworkNode


@dataclass
class Tape:
    """One graph in the making: values going forward, cotangents coming back.

    Attributes:
      build: Writes the graph.
      network: The model.
      training: Whether a backward pass follows, so that rules may prepare for it.
      summed: Whether only sums over the batch are wanted, and no example's own part.
      values: Name in the model to the value in the graph.
      active: Names of values that depend on a parameter.
      cotangents: Name of a batched value to what has flowed back so far.
      credits: Name of a static value to the uses found so far.
      minded: First output of a node and position of each input that its rule saw to.
    """

    build: GraphBuilder
    network: Network
    training: bool
    summed: bool
    values: dict[str, BuilderTensor]
    active: set[str]
    cotangents: dict[str, BuilderTensor] = field(default_factory=dict)
    credits: dict[str, list[GradientFactors]] = field(default_factory=dict)
    minded: set[tuple[str, int]] = field(default_factory=set)

    def inputs(self, node: NetworkNode) -> list[BuilderTensor | None]:
        """The inputs of a node; None for those left out."""
        return [self.values[name] if name else None for name in node.inputs]

    def input(self, node: NetworkNode, position: int) -> BuilderTensor:
        """One input that the operator demands."""
        return self.values[node.inputs[position]]

    def output(self, node: NetworkNode) -> BuilderTensor:
        """The first output, once the node is written."""
        return self.values[node.outputs[0]]

    def shape(self, node: NetworkNode) -> Shape:
        """The shape of the first output."""
        return self.network.shapes[node.outputs[0]]

    def needs(self, node: NetworkNode, position: int) -> bool:
        """True if an input is present and depends on a parameter."""
        self.minded.add((node.outputs[0], position))
        return position < len(node.inputs) and node.inputs[position] in self.active

    def put(self, node: NetworkNode, *tensors: BuilderTensor) -> None:
        """Names the outputs of a node."""
        for name, tensor in zip(node.outputs, tensors, strict=False):
            self.values[name] = tensor

    def cotangent(self, node: NetworkNode, index: int = 0) -> BuilderTensor:
        """Sum of the cotangents of an output that was reached.

        A static output (a weight computed from a parameter) has one row per example,
        or a single one with the sum where `summed`: all that happens to static values
        is linear in their cotangents.
        """
        name = node.outputs[index]
        # What a static value gets are factors; rules need them as rows of examples
        # here.
        if name in self.credits:
            shape = (None, *self.values[name].row)
            use = merge(self.build, self.credits[name])
            if self.summed:
                return self.build.reshape(use.total(self.build, None), shape)
            return self.build.reshape(use.rows(self.build), shape)
        return self.cotangents[name]

    def give(self, node: NetworkNode, position: int, cotangent: BuilderTensor) -> None:
        """Hands a cotangent to a batched input, or rows per example to a static one.

        Args:
          node: Whose input it is.
          position: Of the input.
          cotangent: (n, ...) with the rest of the input's shape.
        """
        self.minded.add((node.outputs[0], position))
        name = node.inputs[position]
        if not self.values[name].batched:
            self.credit(node, position, Rows(cotangent))
        # A value that several nodes read gets the sum of what comes back from each.
        elif name in self.cotangents:
            self.cotangents[name] = self.build.add(self.cotangents[name], cotangent)
        else:
            self.cotangents[name] = cotangent

    def give_broadcast(
        self, node: NetworkNode, position: int, cotangent: BuilderTensor
    ) -> None:
        """As `give`, after summing over the axes along which the input was repeated."""
        target = self.input(node, position)
        self.give(node, position, unbroadcast(self.build, cotangent, target))

    def credit(self, node: NetworkNode, position: int, use: GradientFactors) -> None:
        """Adds one use of a static input."""
        self.minded.add((node.outputs[0], position))
        self.credits.setdefault(node.inputs[position], []).append(use)

    def reached(self, node: NetworkNode, index: int) -> bool:
        """True if a cotangent has flowed back to an output."""
        name = node.outputs[index]
        return name in self.cotangents or name in self.credits

    def constant(self, node: NetworkNode, position: int) -> Array | None:
        """The value of an input that is a constant of the model."""
        if position >= len(node.inputs):
            return None
        return self.network.constants.get(node.inputs[position])


def unbroadcast(
    build: GraphBuilder, cotangent: BuilderTensor, target: BuilderTensor
) -> BuilderTensor:
    """Sums a cotangent over the axes along which `target` was repeated.

    Args:
      build: Writes the graph.
      cotangent: (n, ...).
      target: What was broadcast, batched or static.

    Returns:
      (n, ...) with the static part of the target's shape behind the batch axis.
    """
    rank = len(cotangent.shape)
    padded = (1,) * (rank - len(target.shape)) + target.shape
    axes = [
        axis
        for axis in range(1, rank)
        # Axis 0 is left out: over examples nothing is ever summed here, or parts of
        # examples could not be clipped one by one.
        if padded[axis] == 1 and cotangent.shape[axis] != 1
    ]
    reduced = build.reduce("ReduceSum", cotangent, axes, keep=True)
    return build.reshape(reduced, (None, *target.row))


def batched_output(tape: Tape, node: NetworkNode) -> None:
    """Refuses a node whose output lost the batch axis though an input had it.

    Raises:
      CompileError: Naming the node.
    """
    if any(t.batched for t in tape.inputs(node) if t is not None):
        for name in node.outputs:
            shape = tape.network.shapes.get(name, (None,))
            if not shape or shape[0] is not None:
                raise CompileError(
                    f"{node.label}: mixes the examples of a batch", (node.name,)
                )


def positive_axis(tensor: BuilderTensor, axis: int, node: NetworkNode) -> int:
    """An axis as a number from 0, which must not be the batch axis.

    Raises:
      CompileError: If it is.
    """
    rank = len(tensor.shape)
    axis = axis + rank if axis < 0 else axis
    if axis == 0 and tensor.batched:
        raise CompileError(
            f"{node.label}: works along the batch axis; let it work along another, as "
            "each row of the output has to come from one row of the input",
            (node.name,),
        )
    return axis


def copy(tape: Tape, node: NetworkNode) -> None:
    """Writes a node as it stands in the model."""
    shapes: Sequence[Shape] = [tape.network.shapes[name] for name in node.outputs]
    outputs = tape.build.ops(node.kind, tape.inputs(node), shapes, **node.attributes)
    tape.put(node, *outputs)
