"""The models that a fleet trains, as ONNX, made here and not downloaded."""

import math
from collections.abc import Callable

import numpy as np
import onnx

from starling.fleet.onnx_layers import ModelLayers
from starling.protocol.errors import ConfigError

MODEL_SUFFIX = ".onnx"
"""Of a model that is not made here."""
_CNN_INPUT = (1, 28, 28)
_HIDDEN = 32


_Build = Callable[[ModelLayers, tuple[int, ...], int], str]
"""Adds a model for examples of a shape and a number of classes; its output's name."""


def _flat(layers: ModelLayers, x: str, shape: tuple[int, ...]) -> str:
    return x if len(shape) == 1 else layers.node("Flatten", [x], axis=1)


def _softmax(layers: ModelLayers, shape: tuple[int, ...], classes: int) -> str:
    size = math.prod(shape)
    flat = _flat(layers, "x", shape)
    return layers.linear("linear", flat, (size, classes))


def _mlp(layers: ModelLayers, shape: tuple[int, ...], classes: int) -> str:
    flat = _flat(layers, "x", shape)
    hidden = layers.linear("hidden", flat, (math.prod(shape), _HIDDEN), "Relu")
    return layers.linear("linear", hidden, (_HIDDEN, classes))


def _cnn(activation: str) -> _Build:
    def build(layers: ModelLayers, shape: tuple[int, ...], classes: int) -> str:
        if shape != _CNN_INPUT:
            raise ConfigError(f"cnn takes {_CNN_INPUT}, not {shape}", key="--model")
        first = layers.convolution("conv1", "x", (10, 1), activation)
        second = layers.convolution("conv2", first, (20, 10), activation)
        flat = layers.node("Flatten", [second], axis=1)
        hidden = layers.linear("fc1", flat, (320, 50), activation)
        return layers.linear("fc2", hidden, (50, classes))

    return build


MODELS: dict[str, _Build] = {
    "softmax": _softmax,
    "linear": _softmax,
    "mlp": _mlp,
    "cnn": _cnn("Relu"),
    "cnn-tanh": _cnn("Tanh"),
}
"""By name: softmax regression; linear regression, which is the same layer; one hidden
layer of 32; a CNN of 21,840 parameters, and the same with bounded activations, which
suit clipped and noised gradients better (Papernot et al., arXiv:2007.14191)."""


def build_model(
    name: str, shape: tuple[int, ...], classes: int, rng: np.random.Generator
) -> onnx.ModelProto:
    """Makes a model for `compiler.compile_model`.

    Args:
      name: One of `MODELS`.
      shape: Of one example, float32.
      classes: c, number of outputs: classes, or numbers to predict.
      rng: Draws the weights.

    Returns:
      A checked model from `x (n, *shape)` to `logits (n, c)`, or numbers of that name.

    Raises:
      ConfigError: If there is no such model, or it does not take this shape.
    """
    if name not in MODELS:
        raise ConfigError(f"{name!r} is not one of {', '.join(MODELS)}", key="--model")
    layers = ModelLayers(rng)
    MODELS[name](layers, shape, classes)
    return layers.model(name, shape, classes)
