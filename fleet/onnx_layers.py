"""Layers of ONNX models that are made here.

Letters: `k` inputs, `c` classes. Weights are drawn as He et al. 2015 for layers before
a Relu and are zero in a last linear layer, where nothing is gained by chance.

Source: He, Zhang, Ren, Sun, arXiv:1502.01852, equation 10.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17
_IR_VERSION = 8


@dataclass
class ModelLayers:
    """Nodes in a row; what each method returns is the name of its output.

    Attributes:
      rng: Draws weights.
      nodes: So far.
      weights: So far.
    """

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def weight(self, name: str, values: NDArray[np.floating]) -> str:
        """Adds float32 weights."""
        tensor = numpy_helper.from_array(values.astype(np.float32), name)
        self.weights.append(tensor)
        return name

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Adds an int64 constant, such as a shape."""
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def he(self, shape: tuple[int, ...], inputs: int) -> NDArray[np.float64]:
        """Draws weights of a layer before a Relu."""
        return self.rng.normal(size=shape) * math.sqrt(2.0 / inputs)

    def node(self, kind: str, inputs: list[str], **sizes: int | list[int]) -> str:
        """Adds a node of one output."""
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

    def model(self, name: str, shape: tuple[int, ...], classes: int) -> onnx.ModelProto:
        """The model from `x (n, *shape)` to `logits (n, classes)`, checked."""
        self.nodes[-1].output[0] = "logits"
        port, real = helper.make_tensor_value_info, TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            name,
            [port("x", real, ["n", *shape])],
            [port("logits", real, ["n", classes])],
            self.weights,
        )
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="starling",
        )
        onnx.checker.check_model(made)
        return made
