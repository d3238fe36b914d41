"""Losses: one number for each example, and its derivative by the prediction.

A model that ends in the function that belongs to the loss (softmax for cross-entropy, a
sigmoid for binary cross-entropy) is differentiated from the input of that function,
which is both cheaper and stable; one that does not is taken to return logits.

Letters: n examples, k classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compiler.builder import Builder, Shape, Tensor
from compiler.errors import CompileError
from compiler.network import Network
from protocol.bundle import Port
from protocol.errors import ConfigError

Formula = Callable[[Builder, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(build, prediction, y) to the loss (n,) and its derivative by the prediction."""


@dataclass(frozen=True)
class Loss:
    """One loss.

    Attributes:
      formula: Writes it.
      target: From the shape of a prediction to one example of y.
      absorbs: The operators that it replaces at the end of a model.
    """

    formula: Formula
    target: Callable[[Shape], Port]
    absorbs: tuple[str, ...] = ()


def find_loss(name: str) -> Loss:
    """The loss of a name.

    Raises:
      ConfigError: If there is none.
    """
    if name not in LOSSES:
        raise ConfigError(
            f"{name!r} is not one of {', '.join(sorted(LOSSES))}", key="--loss"
        )
    return LOSSES[name]


def prediction(network: Network, loss: Loss) -> str:
    """Name of the value that the loss starts from."""
    last = [node for node in network.nodes if network.output in node.outputs]
    if last and last[0].kind in loss.absorbs:
        axis = last[0].attributes.get("axis", -1)
        if axis in (-1, len(network.shapes[network.output]) - 1):
            return last[0].inputs[0]
    return network.output


def _cross_entropy(build: Builder, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """log(sum(exp(z))) - z_y; the derivative is softmax(z) minus one at y."""
    classes = z.row[0]
    column = build.reshape(y, (None, 1))
    numbers = build.constant(np.arange(classes, dtype=np.int64))
    equal = build.op("Equal", (column, numbers), z.shape)
    wanted = build.op("Cast", (equal,), z.shape, to=1)
    largest = build.reduce("ReduceMax", z, [1], keep=True)
    shifted = build.binary("Sub", z, largest)
    powers = build.unary("Exp", shifted)
    total = build.reduce("ReduceSum", powers, [1], keep=True)
    # A label outside the classes stops the run here rather than training on nothing.
    picked = build.op("GatherElements", (shifted, column), (None, 1), axis=1)
    loss = build.binary("Sub", build.unary("Log", total), picked)
    slope = build.binary("Sub", build.binary("Div", powers, total), wanted)
    return build.reshape(loss, (None,)), slope


def _mean_squared(build: Builder, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """mean((z - y)^2) over the values of one example."""
    difference = build.binary("Sub", z, y)
    squares = build.squares(difference)
    loss = build.mul(squares, build.scalar(1.0 / z.row_size))
    return loss, build.mul(difference, build.scalar(2.0 / z.row_size))


def _binary(build: Builder, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """mean(softplus(z) - z y) over the values of one example."""
    share = build.scalar(1.0 / z.row_size)
    each = build.binary("Sub", build.unary("Softplus", z), build.mul(z, y))
    total = build.reduce("ReduceSum", build.flat(each), [1])
    slope = build.binary("Sub", build.unary("Sigmoid", z), y)
    return build.mul(total, share), build.mul(slope, share)


def _huber(build: Builder, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of e^2 / 2 up to |e| = 1 and |e| - 1/2 beyond, with e = z - y."""
    difference = build.binary("Sub", z, y)
    bounds = (build.scalar(-1.0), build.scalar(1.0))
    bounded = build.op("Clip", (difference, *bounds), z.shape)
    # e b - b^2 / 2 is both branches, b being e within the bounds and 1 beyond.
    half = build.mul(bounded, build.scalar(0.5))
    each = build.mul(bounded, build.binary("Sub", difference, half))
    total = build.reduce("ReduceSum", build.flat(each), [1])
    share = build.scalar(1.0 / z.row_size)
    return build.mul(total, share), build.mul(bounded, share)


def _label(shape: Shape) -> Port:
    if len(shape) != 2:
        raise CompileError(
            f"cross-entropy needs one row of scores for each example, not {shape}"
        )
    return Port((), "int64")


def _same(shape: Shape) -> Port:
    return Port(tuple([size for size in shape if size is not None]), "float32")


LOSSES: dict[str, Loss] = {
    "bce": Loss(_binary, _same, ("Sigmoid",)),
    "cross-entropy": Loss(_cross_entropy, _label, ("Softmax", "LogSoftmax")),
    "huber": Loss(_huber, _same),
    "mse": Loss(_mean_squared, _same),
}
