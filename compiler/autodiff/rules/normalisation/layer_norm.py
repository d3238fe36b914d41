"""Layer, group and instance normalisation: statistics of one example alone.

All three standardise runs of values, so all are written with the runtime's
LayerNormalization, which hands out the statistics that the way back needs.

Letters: x^ = (x - mean) / sigma over one run.

Source: Ba, Kiros and Hinton, arXiv:1607.06450; Wu and He, arXiv:1803.08494.
"""

import math

import numpy as np

from starling.compiler.autodiff.tape import Tape, positive_axis
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode

_EPSILON = 1e-5


def layer_forward(tape: Tape, node: NetworkNode) -> None:
    """LayerNormalization over the last axes.

    Raises:
      CompileError: If the batch is among them, or statistics are asked for.
    """
    x = tape.input(node, 0)
    if not x.batched or len([name for name in node.outputs if name]) > 1:
        raise CompileError(
            f"{node.label}: hands out statistics; "
            "compute them with ReduceMean beside it",
            (node.name,),
        )
    normal = _standard(tape, x, _layer_axis(tape, node), node)[0]
    y = tape.build.mul(normal, tape.input(node, 1))
    bias = tape.inputs(node)[2] if len(node.inputs) > 2 else None
    tape.put(node, y if bias is None else tape.build.add(y, bias))


def layer(tape: Tape, node: NetworkNode) -> None:
    """Gain and bias element by element, then back through the statistics."""
    build, cotangent, x = tape.build, tape.cotangent(node), tape.input(node, 0)
    axis = _layer_axis(tape, node)
    normal, spread = _standard(tape, x, axis, node)
    if tape.needs(node, 2):
        tape.give_broadcast(node, 2, cotangent)
    if tape.needs(node, 1):
        tape.give_broadcast(node, 1, build.mul(cotangent, normal))
    if tape.needs(node, 0):
        inner = build.mul(cotangent, tape.input(node, 1))
        tape.give(node, 0, _back(tape, inner, normal, spread, axis))


def group_forward(tape: Tape, node: NetworkNode) -> None:
    """GroupNormalization and InstanceNormalization, a group for each channel."""
    build, x = tape.build, tape.input(node, 0)
    normal = build.reshape(_standard(tape, _runs(tape, node, x), 2, node)[0], x.shape)
    gain, bias = [_channels(tape, node, position) for position in (1, 2)]
    tape.put(node, build.add(build.mul(normal, gain), bias))


def group(tape: Tape, node: NetworkNode) -> None:
    """As `layer`, with gain and bias for each channel."""
    build, cotangent, x = tape.build, tape.cotangent(node), tape.input(node, 0)
    runs, spread = _standard(tape, _runs(tape, node, x), 2, node)
    normal = build.reshape(runs, x.shape)
    for position, share in ((1, build.mul(cotangent, normal)), (2, cotangent)):
        if tape.needs(node, position):
            axes = list(range(2, len(x.shape)))
            tape.give(node, position, build.reduce("ReduceSum", share, axes))
    if tape.needs(node, 0):
        inner = build.mul(cotangent, _channels(tape, node, 1))
        back = _back(tape, _runs(tape, node, inner), runs, spread, 2)
        tape.give(node, 0, build.reshape(back, x.shape))


def _standard(
    tape: Tape, x: BuilderTensor, axis: int, node: NetworkNode
) -> tuple[BuilderTensor, BuilderTensor]:
    """x^, and 1 / sigma with size 1 along the axes from `axis` on."""
    shape = x.shape[:axis]
    inner = x.row[axis - 1 :]
    # The gain is multiplied apart, since the way back needs the values without it.
    ones = tape.build.constant(np.ones(inner, np.float32))
    statistics = (*shape, *[1] * len(inner))
    # The third output is 1 over the spread, which the way back multiplies by.
    normal, _, spread = tape.build.ops(
        "LayerNormalization",
        (x, ones),
        (x.shape, statistics, statistics),
        axis=axis,
        epsilon=float(node.attributes.get("epsilon", _EPSILON)),
    )
    return normal, spread


def _back(
    tape: Tape,
    inner: BuilderTensor,
    normal: BuilderTensor,
    spread: BuilderTensor,
    axis: int,
) -> BuilderTensor:
    """(g - mean(g) - x^ mean(g x^)) / sigma, means over one run."""
    build = tape.build
    axes = list(range(axis, len(inner.shape)))
    mean = build.reduce("ReduceMean", inner, axes, keep=True)
    product = build.reduce("ReduceMean", build.mul(inner, normal), axes, keep=True)
    rest = build.binary("Sub", inner, mean)
    rest = build.binary("Sub", rest, build.mul(normal, product))
    return build.mul(rest, spread)


def _layer_axis(tape: Tape, node: NetworkNode) -> int:
    return positive_axis(tape.input(node, 0), node.attributes.get("axis", -1), node)


def _runs(tape: Tape, node: NetworkNode, x: BuilderTensor) -> BuilderTensor:
    """(n, groups, values of one group)."""
    channels = x.row[0]
    groups = int(node.attributes.get("num_groups", channels))
    if groups < 1 or channels % groups:
        raise CompileError(
            f"{node.label}: {channels} channels in {groups} groups", (node.name,)
        )
    size = channels // groups * math.prod(x.row[1:])
    return tape.build.reshape(x, (None, groups, size))


def _channels(tape: Tape, node: NetworkNode, position: int) -> BuilderTensor:
    """Gain or bias of each channel, so that it broadcasts over an image."""
    vector, x = tape.input(node, position), tape.input(node, 0)
    return tape.build.reshape(vector, (*vector.row, *[1] * (len(x.row) - 1)))
