"""The models that a fleet trains, as ONNX, made here and not downloaded.

Letters: `k` inputs, `c` classes. Weights are drawn as He et al. 2015 for layers before
a Relu and are zero in a last linear layer, where nothing is gained by chance.

Source: He, Zhang, Ren, Sun, arXiv:1502.01852, equation 10.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from starling.protocol.errors import ConfigError

MODEL_SUFFIX = ".onnx"
"""Of a model that is not made here."""
_OPSET = 17
_IR_VERSION = 8
_CNN_INPUT = (1, 28, 28)
_HIDDEN = 32


@dataclass
class _Layers:
    """Nodes in a row; what each returns is the name of its output."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, name: str, values: NDArray[np.float64]) -> str:
        tensor = numpy_helper.from_array(values.astype(np.float32), name)
        self.weights.append(tensor)
        return name

    def he(self, shape: tuple[int, ...], inputs: int) -> NDArray[np.float64]:
        return self.rng.normal(size=shape) * math.sqrt(2.0 / inputs)

    def node(self, kind: str, inputs: list[str], **sizes: int | list[int]) -> str:
        output = f"{kind.lower()}{len(self.nodes)}"
        made = helper.make_node(kind, inputs, [output])
        made.attribute.extend(helper.make_attribute(*size) for size in sizes.items())
        self.nodes.append(made)
        return output

    def convolution(
        self, name: str, x: str, filters: tuple[int, int], activation: str
    ) -> str:
        """A 5x5 convolution, 2x2 maximum, activation."""
        outputs, inputs = filters
        shape = (outputs, inputs, 5, 5)
        weight = self.weight(f"{name}.weight", self.he(shape, inputs * 25))
        bias = self.weight(f"{name}.bias", np.zeros(outputs))
        wide = self.node("Conv", [x, weight, bias], kernel_shape=[5, 5])
        pooled = self.node("MaxPool", [wide], kernel_shape=[2, 2], strides=[2, 2])
        return self.node(activation, [pooled])

    def linear(
        self, name: str, x: str, shape: tuple[int, int], activation: str = ""
    ) -> str:
        """A full layer; without an activation it is the last, and starts at zero."""
        inputs, outputs = shape
        start = self.he(shape, inputs) if activation else np.zeros(shape)
        weight = self.weight(f"{name}.weight", start)
        bias = self.weight(f"{name}.bias", np.zeros(outputs))
        wide = self.node("Gemm", [x, weight, bias])
        return self.node(activation, [wide]) if activation else wide


_Build = Callable[[_Layers, tuple[int, ...], int], str]
"""Adds a model for examples of a shape and a number of classes; its output's name."""


def _flat(layers: _Layers, x: str, shape: tuple[int, ...]) -> str:
    return x if len(shape) == 1 else layers.node("Flatten", [x], axis=1)


def _softmax(layers: _Layers, shape: tuple[int, ...], classes: int) -> str:
    size = math.prod(shape)
    flat = _flat(layers, "x", shape)
    return layers.linear("linear", flat, (size, classes))


def _mlp(layers: _Layers, shape: tuple[int, ...], classes: int) -> str:
    flat = _flat(layers, "x", shape)
    hidden = layers.linear("hidden", flat, (math.prod(shape), _HIDDEN), "Relu")
    return layers.linear("linear", hidden, (_HIDDEN, classes))


def _cnn(activation: str) -> _Build:
    def build(layers: _Layers, shape: tuple[int, ...], classes: int) -> str:
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
    layers = _Layers(rng)
    MODELS[name](layers, shape, classes)
    layers.nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        layers.nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])],
        layers.weights,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="starling",
    )
    onnx.checker.check_model(model)
    return model
