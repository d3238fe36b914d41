"""Small models for the compiler's tests, made with onnx alone."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from starling.compiler.ir.graph_writer import Attribute

OPSET = 17


def node(
    kind: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    name: str = "",
    **attributes: Attribute,
) -> onnx.NodeProto:
    """One node, its attributes in order of name."""
    made = helper.make_node(kind, inputs, outputs, name=name)
    made.attribute.extend(
        [helper.make_attribute(*item) for item in sorted(attributes.items())]
    )
    return made


def build(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, NDArray[np.generic]],
    row: tuple[int, ...],
    out: tuple[int, ...],
    opset: int = OPSET,
) -> onnx.ModelProto:
    """A model from `x` to `out`, with a free batch axis."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *row])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", *out])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def weight(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Normal values whose sums over the last axes keep a size of about one."""
    fan = max(int(np.prod(shape[1:], dtype=int)), 1)
    scaled: NDArray[np.float64] = rng.standard_normal(shape) / np.sqrt(fan)
    return scaled.astype(np.float32)


def mlp(seed: int = 0) -> onnx.ModelProto:
    """Gemm, Tanh, MatMul, Add, Softmax: 8 inputs, 6 hidden, 3 classes."""
    rng = np.random.default_rng(seed)
    weights = {
        "hidden.weight": weight(rng, 6, 8),
        "hidden.bias": weight(rng, 6),
        "head.weight": weight(rng, 6, 3),
        "head.bias": weight(rng, 3),
    }
    nodes = [
        node("Gemm", ["x", "hidden.weight", "hidden.bias"], ["h"], "hidden", transB=1),
        node("Tanh", ["h"], ["t"], "tanh"),
        node("MatMul", ["t", "head.weight"], ["m"], "head"),
        node("Add", ["m", "head.bias"], ["z"], "bias"),
        node("Softmax", ["z"], ["out"], "softmax", axis=-1),
    ]
    return build(nodes, weights, (8,), (3,))


def cnn(seed: int = 0) -> onnx.ModelProto:
    """The reference network: two convolutions, two poolings, two linear layers."""
    rng = np.random.default_rng(seed)
    weights = {
        "conv1.weight": weight(rng, 10, 1, 5, 5),
        "conv1.bias": weight(rng, 10),
        "conv2.weight": weight(rng, 20, 10, 5, 5),
        "conv2.bias": weight(rng, 20),
        "fc1.weight": weight(rng, 50, 320),
        "fc1.bias": weight(rng, 50),
        "fc2.weight": weight(rng, 10, 50),
        "fc2.bias": weight(rng, 10),
    }
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("Conv", ["x", "conv1.weight", "conv1.bias"], ["a"], "conv1"),
        node("MaxPool", ["a"], ["b"], "pool1", **pool),
        node("Relu", ["b"], ["c"], "relu1"),
        node("Conv", ["c", "conv2.weight", "conv2.bias"], ["d"], "conv2"),
        node("MaxPool", ["d"], ["e"], "pool2", **pool),
        node("Relu", ["e"], ["f"], "relu2"),
        node("Flatten", ["f"], ["g"], "flatten"),
        node("Gemm", ["g", "fc1.weight", "fc1.bias"], ["h"], "fc1", transB=1),
        node("Relu", ["h"], ["i"], "relu3"),
        node("Gemm", ["i", "fc2.weight", "fc2.bias"], ["out"], "fc2", transB=1),
    ]
    return build(nodes, weights, (1, 28, 28), (10,))
