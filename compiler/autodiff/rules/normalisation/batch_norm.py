"""Normalisation with fixed statistics, and dropout where it does nothing."""

from starling.compiler.autodiff.tape import Tape, copy
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode

_EPSILON = 1e-5


def batch_forward(tape: Tape, node: NetworkNode) -> None:
    """BatchNormalization with the statistics that the model came with.

    Raises:
      CompileError: If it would take statistics of the batch: these mix examples, and no
        gradient could be called one example's own.
    """
    if node.attributes.get("training_mode", 0):
        raise CompileError(
            f"{node.label}: statistics of a batch mix its examples; export the model "
            "in evaluation mode, or use GroupNormalization",
            (node.name,),
        )
    copy(tape, node)


def batch(tape: Tape, node: NetworkNode) -> None:
    """(x - mean) / sqrt(var + eps) * scale + bias, channel by channel."""
    build, cotangent = tape.build, tape.cotangent(node)
    x, scale, _, mean, variance = [tape.input(node, k) for k in range(5)]
    epsilon = build.scalar(node.attributes.get("epsilon", _EPSILON))
    spread = build.unary("Sqrt", build.add(variance, epsilon))
    axes = list(range(2, len(x.shape)))
    if tape.needs(node, 0):
        slope = _channel(tape, build.binary("Div", scale, spread), len(axes))
        tape.give(node, 0, build.mul(cotangent, slope))
    if tape.needs(node, 1):
        centred = build.binary("Sub", x, _channel(tape, mean, len(axes)))
        normal = build.binary("Div", centred, _channel(tape, spread, len(axes)))
        product = build.mul(cotangent, normal)
        tape.give(node, 1, build.reduce("ReduceSum", product, axes))
    if tape.needs(node, 2):
        tape.give(node, 2, build.reduce("ReduceSum", cotangent, axes))


def dropout_forward(tape: Tape, node: NetworkNode) -> None:
    """Dropout outside of training, which does nothing.

    Raises:
      CompileError: If it is switched on: boards draw no random numbers in graphs.
    """
    switch = node.inputs[2] if len(node.inputs) > 2 else ""
    # A computed switch counts as on.
    if switch and bool(tape.network.constants.get(switch, True)):
        raise CompileError(
            f"{node.label}: dropout is on; export the model in evaluation mode",
            (node.name,),
        )
    tape.put(node, tape.input(node, 0))


def _channel(tape: Tape, vector: BuilderTensor, axes: int) -> BuilderTensor:
    """A value for each channel, so that it broadcasts over an image."""
    return tape.build.reshape(vector, (*vector.row, *[1] * axes))
