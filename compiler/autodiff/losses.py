"""Losses: one number for each example, and its derivative by the prediction.

A model that ends in the function that belongs to the loss (softmax for cross-entropy, a
sigmoid for binary cross-entropy) is differentiated from the input of that function,
which is both cheaper and stable (`scored_network`); others return scores.

Letters: n examples, k classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor, GraphBuilder
from starling.compiler.ir.graph_writer import Shape
from starling.protocol.errors import ConfigError
from starling.protocol.model.training_bundle import LossSettings, TensorSpec

PLAIN = LossSettings()
Formula = Callable[
    [GraphBuilder, BuilderTensor, BuilderTensor, LossSettings],
    tuple[BuilderTensor, BuilderTensor],
]
"""(build, prediction, y, settings) to the loss (n,) and its derivative by the
prediction."""


@dataclass(frozen=True)
class Loss:
    """One loss.

    Attributes:
      name: As `--loss` calls it.
      formula: Writes it.
      target: From the shape of a prediction to one example of y.
      absorbs: The operators that it replaces at the end of a model.
      settings: How it departs from its plain form.
    """

    name: str
    formula: Formula
    target: Callable[[Shape], TensorSpec]
    absorbs: tuple[str, ...] = ()
    settings: LossSettings = PLAIN

    @property
    def of_scores(self) -> bool:
        """True if the loss starts from scores of any size."""
        return bool(self.absorbs)


def find_loss(name: str, settings: LossSettings = PLAIN) -> Loss:
    """The loss of a name.

    Raises:
      ConfigError: If there is none, or a setting belongs to another one.
    """
    if name not in LOSSES:
        raise ConfigError(
            f"{name!r} is not one of {', '.join(sorted(LOSSES))}", key="--loss"
        )
    if name != "cross-entropy" and settings.class_weights:
        raise ConfigError("belongs to cross-entropy", key="--class-weights")
    if name != "cross-entropy" and settings.label_smoothing:
        raise ConfigError("belongs to cross-entropy", key="--label-smoothing")
    if name != "huber" and settings.delta != PLAIN.delta:
        raise ConfigError("belongs to huber", key="--delta")
    return replace(LOSSES[name], settings=settings)


def _cross_entropy(
    build: GraphBuilder, z: BuilderTensor, y: BuilderTensor, settings: LossSettings
) -> tuple[BuilderTensor, BuilderTensor]:
    """-p_y with p = log softmax(z); the derivative is exp(p) minus one at y.

    With weights w and smoothing s the label becomes a row q of k values, (1 - s) w_y at
    y and s w / k everywhere; the loss is -sum(q p), its derivative sum(q) exp(p) - q.
    """
    classes = z.row[0]
    column = build.reshape(y, (None, 1))
    numbers = build.constant(np.arange(classes, dtype=np.int64))
    equal = build.op("Equal", (column, numbers), z.shape)
    wanted = build.op("Cast", (equal,), z.shape, to=1)
    # Not the logarithm of a softmax, which is minus infinity where a share rounds to 0.
    powers = build.unary("LogSoftmax", z, axis=1)
    # A label outside the classes stops the run here rather than training on nothing.
    picked = build.op("GatherElements", (powers, column), (None, 1), axis=1)
    share = build.unary("Exp", powers)
    weights, smoothing = _weights(settings, classes), settings.label_smoothing
    if settings.class_weights or smoothing:
        own = build.constant((1.0 - smoothing) * weights)
        spread = build.constant(smoothing / classes * weights)
        wanted = build.add(build.mul(wanted, own), spread)
        mass = build.reduce("ReduceSum", wanted, [1], keep=True)
        others = build.reduce("ReduceSum", build.mul(powers, spread), [1], keep=True)
        factor = build.op("Gather", (own, column), (None, 1), axis=0)
        picked = build.add(build.mul(picked, factor), others)
        share = build.mul(share, mass)
    loss = build.reshape(build.unary("Neg", picked), (None,))
    return loss, build.binary("Sub", share, wanted)


def _weights(settings: LossSettings, classes: int) -> NDArray[np.float32]:
    """(k,): a factor for each class.

    Raises:
      ConfigError: If there is another number of them than of classes.
    """
    given = settings.class_weights or (1.0,) * classes
    if len(given) != classes:
        raise ConfigError(
            f"{len(given)} weights for {classes} classes", key="--class-weights"
        )
    return np.array(given, np.float32)


def _mean_squared(
    build: GraphBuilder, z: BuilderTensor, y: BuilderTensor, _settings: LossSettings
) -> tuple[BuilderTensor, BuilderTensor]:
    """mean((z - y)^2) over the values of one example."""
    difference = build.binary("Sub", z, y)
    squares = build.squares(difference)
    loss = build.mul(squares, build.scalar(1.0 / z.row_size))
    return loss, build.mul(difference, build.scalar(2.0 / z.row_size))


def _binary(
    build: GraphBuilder, z: BuilderTensor, y: BuilderTensor, _settings: LossSettings
) -> tuple[BuilderTensor, BuilderTensor]:
    """mean(softplus(z) - z y) over the values of one example."""
    share = build.scalar(1.0 / z.row_size)
    # In scores and not in probabilities, whose logarithm overflows at 0 and 1.
    each = build.binary("Sub", build.unary("Softplus", z), build.mul(z, y))
    total = build.reduce("ReduceSum", build.flat(each), [1])
    slope = build.binary("Sub", build.unary("Sigmoid", z), y)
    return build.mul(total, share), build.mul(slope, share)


def _huber(
    build: GraphBuilder, z: BuilderTensor, y: BuilderTensor, settings: LossSettings
) -> tuple[BuilderTensor, BuilderTensor]:
    """Mean of e^2 / 2 up to |e| = d and d (|e| - d / 2) beyond, with e = z - y."""
    difference = build.binary("Sub", z, y)
    bounds = (build.scalar(-settings.delta), build.scalar(settings.delta))
    bounded = build.op("Clip", (difference, *bounds), z.shape)
    # e b - b^2 / 2 is both branches, b being e within the bounds and d beyond.
    half = build.mul(bounded, build.scalar(0.5))
    each = build.mul(bounded, build.binary("Sub", difference, half))
    total = build.reduce("ReduceSum", build.flat(each), [1])
    share = build.scalar(1.0 / z.row_size)
    return build.mul(total, share), build.mul(bounded, share)


def _shown(shape: Shape) -> str:
    sizes = ["batch" if size is None else str(size) for size in shape]
    return f"({', '.join(sizes)})"


def _label(shape: Shape) -> TensorSpec:
    if len(shape) != 2:
        raise CompileError(
            "cross-entropy needs one row of scores for each example, not "
            f"{_shown(shape)}; let the model end in (batch, classes), before any "
            "argmax; where each place has a class, say --loss bce with a target for "
            "each output"
        )
    # A softmax of one score is 1 whatever the score is.
    if shape[1] == 1:
        raise CompileError(
            "cross-entropy of one score is always 0; say --loss bce, or give the model "
            "a score for each class"
        )
    return TensorSpec((), "int64")


def _same(shape: Shape) -> TensorSpec:
    return TensorSpec(tuple([size for size in shape if size is not None]), "float32")


_LOSSES = (
    Loss("bce", _binary, _same, ("Sigmoid",)),
    Loss("cross-entropy", _cross_entropy, _label, ("Softmax", "LogSoftmax")),
    Loss("huber", _huber, _same),
    Loss("mse", _mean_squared, _same),
)
LOSSES: dict[str, Loss] = {loss.name: loss for loss in _LOSSES}
