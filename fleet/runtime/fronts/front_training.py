"""Trains a front's network on drawn digits, by Starling's own compiler and engine.

One seed, one thread, fixed sizes: the same machine makes the same front twice. Another
processor may add up in another order, so that weights differ in their last digits.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.agent.training.optimisers import OPTIMISERS
from starling.agent.training.training_inputs import Trainer
from starling.compiler import compile_model
from starling.fleet.fronts.orientation_features import add_unit_length
from starling.fleet.fronts.picture_frame import CLASSES
from starling.fleet.fronts.whitening import add_whitening, whitening_of
from starling.fleet.onnx_layers import ModelLayers
from starling.fleet.reference_models import build_model
from starling.fleet.runtime.fronts.front_features import features_of
from starling.protocol.learning.local_optimiser import DescentPolicy, OptimiserKind
from starling.protocol.model.training_bundle import LossSettings

Say = Callable[[str], None]
_BATCH = 64
_RATE, _WARM = 4e-3, 0.3
_SMOOTHING = 0.1
_CONTRAST, _GRAIN = 0.3, 0.05
_POWER, _RIDGE = 0.25, 0.1
_ADAM = DescentPolicy(optimiser=OptimiserKind.ADAM)


@dataclass(frozen=True)
class FrontNetwork:
    """Sizes of the network and of its training.

    Attributes:
      filters: Of its two convolutions of 5x5.
      features: Of its last layer, which the head sees.
      penned: Pictures drawn along skeletons.
      glyphs: Pictures drawn of fonts.
      digits: Pictures drawn of UCI's digits.
      bend: Of `drawn_digits.drawn`.
      epochs: Over all of these.
      seed: Of everything.
    """

    filters: tuple[int, int] = (16, 32)
    features: int = 64
    penned: int = 0
    glyphs: int = 0
    digits: int = 0
    bend: float = 2.5
    epochs: int = 5
    seed: int = 1


def trained_front(
    network: FrontNetwork, x: NDArray[np.float32], y: NDArray[np.int64], say: Say
) -> onnx.ModelProto:
    """Trains, and freezes what comes out.

    Args:
      network: Its sizes.
      x: (n, 1, 28, 28) drawn pictures.
      y: (n,) their digits.
      say: Told of each epoch.

    Returns:
      A front of `fleet.fronts.head_model`'s form, its features centred and gently
      whitened on `x` before they get unit length.
    """
    rng = np.random.default_rng(network.seed)
    layers = ModelLayers(rng)
    features = _network(layers, network)
    layers.linear("head", features, (network.features, CLASSES))
    plain = layers.model("front", x.shape[1:], CLASSES)
    return _frozen(network, _trained(plain, network, (x, y), rng, say), x)


def trained_start(
    name: str,
    network: FrontNetwork,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    say: Say,
) -> onnx.ModelProto:
    """Trains a reference model whole, as a start from which boards train all of it.

    Args:
      name: Of `fleet.reference_models.MODELS`.
      network: Its training; the sizes of its layers are the model's own.
      x: (n, 1, 28, 28) drawn pictures.
      y: (n,) their digits.
      say: Told of each epoch.

    Raises:
      ConfigError: If there is no such model.
    """
    rng = np.random.default_rng(network.seed)
    model = build_model(name, x.shape[1:], CLASSES, rng)
    found = _trained(model, network, (x, y), rng, say)
    for item in model.graph.initializer:
        if item.name in found:
            item.CopyFrom(numpy_helper.from_array(found[item.name], item.name))
    return model


def _trained(
    model: onnx.ModelProto,
    network: FrontNetwork,
    pictures: tuple[NDArray[np.float32], NDArray[np.int64]],
    rng: np.random.Generator,
    say: Say,
) -> dict[str, NDArray[np.float32]]:
    """A model's parameters by name, trained."""
    settings = LossSettings(label_smoothing=_SMOOTHING)
    bundle = compile_model(model, loss="cross-entropy", settings=settings)
    trainer = open_trainer(bundle.packed)
    theta = _descended(trainer, network, pictures, rng, say)
    return {
        item.name: theta[item.offset : item.offset + item.size].reshape(item.shape)
        for item in trainer.manifest.parameters
        if item.offset is not None
    }


def _network(layers: ModelLayers, network: FrontNetwork) -> str:
    """The layers before the head; (n, 1, 28, 28) becomes (n, features)."""
    first, second = network.filters
    edges = layers.convolution("front.conv1", "x", (first, 1), "Relu")
    parts = layers.convolution("front.conv2", edges, (second, first), "Relu")
    flat = layers.node("Flatten", [parts], axis=1)
    return layers.linear("front.fc", flat, (second * 16, network.features), "Relu")


def _descended(
    trainer: Trainer,
    network: FrontNetwork,
    pictures: tuple[NDArray[np.float32], NDArray[np.int64]],
    rng: np.random.Generator,
    say: Say,
) -> NDArray[np.float32]:
    """Parameters after Adam whose rate rises, and falls to zero."""
    x, y = pictures
    adam = OPTIMISERS[OptimiserKind.ADAM](_ADAM)
    theta = trainer.theta.copy()
    state = adam.init(theta.size)
    batches = len(x) // _BATCH
    steps = network.epochs * batches
    for epoch in range(network.epochs):
        order, loss = rng.permutation(len(x)), 0.0
        for at in range(batches):
            rows = order[at * _BATCH : (at + 1) * _BATCH]
            gradient, losses = trainer.gradient_sum(
                theta, _noisy(x[rows], rng), y[rows]
            )
            done = (epoch * batches + at + 1) / (steps + 1)
            slope = done / _WARM if done < _WARM else (1 - done) / (1 - _WARM)
            state, theta = adam.apply(
                state, gradient / np.float32(_BATCH), theta, _RATE * slope
            )
            loss += float(losses.sum())
        say(f"epoch {epoch + 1} of {network.epochs}: loss {loss / len(x):.3f}")
    return theta


def _noisy(x: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Pictures with other contrasts, and grain."""
    contrast = rng.uniform(1 - _CONTRAST, 1 + _CONTRAST, (len(x), 1, 1, 1))
    grain = rng.uniform(0, _GRAIN) * rng.normal(size=x.shape)
    return np.clip(x * contrast + grain, 0, 1).astype(np.float32)


def _frozen(
    network: FrontNetwork,
    weights: dict[str, NDArray[np.float32]],
    x: NDArray[np.float32],
) -> onnx.ModelProto:
    """The front with whitened features of unit length, and a head of zeros."""
    layers = ModelLayers(np.random.default_rng(network.seed))
    features = _network(layers, network)
    for item in layers.weights:
        item.CopyFrom(numpy_helper.from_array(weights[item.name], item.name))
    plain = ModelLayers(layers.rng, [*layers.nodes], [*layers.weights])
    plain.linear("head", features, (network.features, CLASSES))
    seen = features_of(plain.model("front", x.shape[1:], CLASSES), x)
    found = whitening_of(seen, network.features, _POWER, _RIDGE)
    unit = add_unit_length(layers, add_whitening(layers, features, found), "tiny")
    layers.linear("head", unit, (network.features, CLASSES))
    return layers.model("front", x.shape[1:], CLASSES)
