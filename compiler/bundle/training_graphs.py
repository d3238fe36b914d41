"""Writes the four graphs of a bundle.

Per-example clipping is exact: one backward pass gives the factors of each example's
gradient, their norms give one scale per example, and the sum is taken with the scales.

Source: Abadi et al., arXiv:1607.00133 (clipping); Lee and Kifer, arXiv:2009.03106
(one backward pass where the scales enter only at the end).
"""

from collections.abc import Callable, Sequence

from starling.compiler.autodiff.gradient_factors import GradientFactors, merge
from starling.compiler.autodiff.losses import Loss
from starling.compiler.autodiff.rules.rule_table import sloped, steps, write, write_back
from starling.compiler.autodiff.scored_network import scored_network
from starling.compiler.autodiff.straight_through import held
from starling.compiler.autodiff.tape import Tape
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor, GraphBuilder
from starling.compiler.ir.network import Network, NetworkNode
from starling.compiler.rewrite.operator_fusion import fuse
from starling.protocol.privacy.clipping_functions import (
    AUTOMATIC,
    AUTOMATIC_OFFSET,
    NORM,
    NORM_MIN,
    clip_margin,
)


def infer_graph(network: Network) -> bytes:
    """theta, x -> output."""
    tape = _forward(network, training=False)
    output = tape.values[network.output]
    return tape.build.finish("infer", [("output", output, "float32")])


def evaluate_graph(network: Network, loss: Loss) -> bytes:
    """theta, x, y -> loss (n,), output."""
    # Losses start from scores, while the output stays what the model gives.
    end = scored_network(network, loss)
    tape = _forward(end.network, training=False)
    values, _ = _loss(tape, loss, end.scores)
    output = tape.values[network.output]
    outputs = [("loss", values, "float32"), ("output", output, "float32")]
    return tape.build.finish("evaluate", outputs)


def gradient_graph(network: Network, loss: Loss) -> bytes:
    """theta, x, y -> gradient (d,), the sum over the batch; loss (n,)."""
    end = scored_network(network, loss)
    tape = _forward(end.network, training=True, summed=True)
    build = tape.build
    values, _, parts = _backward(tape, loss, end.scores, _summed)
    outputs = [
        ("gradient", build.concat(parts, 0), "float32"),
        ("loss", values, "float32"),
    ]
    return build.finish("gradient", outputs)


def private_graph(
    network: Network, loss: Loss, clipping: str = NORM
) -> tuple[bytes, dict[str, GradientFactors]]:
    """theta, x, y, clip -> clipped gradient sum (d,); loss (n,); norm (n,).

    Args:
      network: The model.
      loss: Of each example.
      clipping: One of `protocol.privacy.clipping_functions.CLIPPINGS`.

    Returns:
      The graph, and factors of each parameter's gradient.
    """
    end = scored_network(network, loss)
    tape = _forward(end.network, training=True)
    build = tape.build
    values, uses, squares = _backward(tape, loss, end.scores, _squared)
    clip = build.input("clip", (), "float32")
    # One norm over all parameters: a clip for each tensor would have another
    # sensitivity.
    squared = build.op("Sum", squares, (None,))
    norm = build.unary("Sqrt", squared)
    scales = _scales(build, norm, clip, network.dimension, clipping)
    parts = [use.total(build, scales) for use in uses]
    outputs = [
        ("gradient", build.concat(parts, 0), "float32"),
        ("loss", values, "float32"),
        ("norm", norm, "float32"),
    ]
    factors = dict(zip(network.parameters, uses, strict=True))
    return build.finish("private_gradient", outputs), factors


def _scales(
    build: GraphBuilder,
    norm: BuilderTensor,
    clip: BuilderTensor,
    dimension: int,
    clipping: str,
) -> BuilderTensor:
    """(n,): `protocol.privacy.clipping_functions.clip_scale` of each norm."""
    # Float32 rounds norms and sums; the margin keeps what leaves the board within the
    # clip that the noise is drawn for.
    bound = build.mul(clip, build.scalar(1.0 - clip_margin(dimension)))
    if clipping == AUTOMATIC:
        longest = build.add(norm, build.scalar(AUTOMATIC_OFFSET))
    else:
        # Under a clip of 0 and a norm of 0 this would be 0 over 0.
        longest = build.op("Max", (norm, bound, build.scalar(NORM_MIN)), (None,))
    return build.op("Div", (bound, longest), (None,))


def _forward(network: Network, *, training: bool, summed: bool = False) -> Tape:
    network = held(network)
    network = fuse(network) if training else network
    build = GraphBuilder()
    theta = build.input("theta", (network.dimension,), "float32")
    values = _parameters(build, theta, network)
    values[network.input] = build.input("x", network.shapes[network.input], "float32")
    for name, array in network.constants.items():
        values[name] = build.constant(array)
    tape = Tape(build, network, training, summed, values, _active(network))
    for node in network.nodes:
        write(tape, node)
    # Then every example has the same loss, and there is nothing to learn from data.
    if not tape.values[network.output].batched:
        raise CompileError(
            "the output does not depend on the input; choose another with --output"
        )
    return tape


def _parameters(
    build: GraphBuilder, theta: BuilderTensor, network: Network
) -> dict[str, BuilderTensor]:
    sizes = [array.size for array in network.parameters.values()]
    parts: Sequence[BuilderTensor] = [theta]
    if len(sizes) > 1:
        inputs = (theta, build.integers(*sizes))
        parts = build.ops("Split", inputs, [(size,) for size in sizes], axis=0)
    return {
        name: build.reshape(part, array.shape)
        for (name, array), part in zip(network.parameters.items(), parts, strict=True)
    }


def _active(network: Network) -> set[str]:
    active = set(network.parameters)
    for node in network.nodes:
        if active.intersection(node.inputs):
            active.update(sloped(node))
    return active


def _loss(tape: Tape, loss: Loss, name: str) -> tuple[BuilderTensor, BuilderTensor]:
    scores = tape.values[name]
    port = loss.target(scores.shape)
    y = tape.build.input("y", (None, *port.shape), port.dtype)
    return loss.formula(tape.build, scores, y, loss.settings)


def _summed(build: GraphBuilder, use: GradientFactors) -> BuilderTensor:
    return use.total(build, None)


def _squared(build: GraphBuilder, use: GradientFactors) -> BuilderTensor:
    return use.norm_squared(build)


def _backward(
    tape: Tape,
    loss: Loss,
    scores: str,
    finish: Callable[[GraphBuilder, GradientFactors], BuilderTensor],
) -> tuple[BuilderTensor, list[GradientFactors], list[BuilderTensor]]:
    """The loss, and for each parameter what it gets and what `finish` makes of that.

    A parameter is finished behind the last node that adds to it, and not at the end, so
    that activations and patches are let go of as the backward pass goes on.
    """
    values, slope = _loss(tape, loss, scores)
    tape.cotangents[scores] = slope
    first: dict[str, NetworkNode] = {}
    for node in reversed(tape.network.nodes):
        # Backwards, so that the last entry of a value is the first node that reads it:
        # behind that one nothing more comes back to it.
        first |= dict.fromkeys(node.inputs, node)
    found: dict[str, tuple[GradientFactors, BuilderTensor]] = {}
    for node in reversed(tape.network.nodes):
        reached = any(tape.reached(node, k) for k in range(len(node.outputs)))
        # What no parameter stands before needs no way back.
        if reached and tape.active.intersection(node.outputs):
            write_back(tape, node)
            _check_has_gradient(tape, node)
        for name in node.inputs:
            if name in tape.network.parameters and first[name] is node:
                use = _merged(tape, name)
                found[name] = use, finish(tape.build, use)
    pairs = [found[name] for name in tape.network.parameters]
    return values, [use for use, _ in pairs], [made for _, made in pairs]


def _merged(tape: Tape, name: str) -> GradientFactors:
    """All that a parameter gets.

    Raises:
      CompileError: If it gets nothing.
    """
    if name not in tape.credits:
        found = _steps_behind(tape.network, name)
        shown = ", ".join([node.label for node in found])
        raise CompileError(
            f"{shown[:300] or 'the model'}: the weight {name!r} acts through steps "
            "alone, which have no slope; take the value before them as --output, write "
            "a straight-through estimator, x + (step(x) - x), or leave the weight out "
            "with --freeze",
            tuple([node.name for node in found]),
        )
    return merge(tape.build, tape.credits[name])


def _steps_behind(network: Network, name: str) -> list[NetworkNode]:
    """The steps at which all that a weight does ends."""
    reached, found = {name}, []
    for node in network.nodes:
        if reached.intersection(node.inputs):
            if steps(node):
                found.append(node)
            else:
                reached.update(node.outputs)
    return found


def _check_has_gradient(tape: Tape, node: NetworkNode) -> None:
    """Refuses a node whose rule has no gradient by an input that needs one.

    Raises:
      CompileError: Naming the node and the input.
    """
    for position, name in enumerate(node.inputs):
        if name in tape.active and (node.outputs[0], position) not in tape.minded:
            raise CompileError(
                f"{node.label}: cannot be trained through its input {name!r}; leave "
                "what that is made of out with --train",
                (node.name,),
            )
