"""The networks of `training_step`, as ONNX: what people train on boards.

`cnn` is the reference network on 28x28 images; `perceptron` has one hidden layer of 128
on the same; `sensor` convolves windows of 128 steps of nine sensor channels; `gru`
reads 32 steps of the same channels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shapes = Mapping[str, tuple[int, ...]]
node = helper.make_node


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
      make: Writes it, with normal weights.
      row: Shape of one example.
      classes: Scores that it gives.
    """

    make: Callable[[np.random.Generator], onnx.ModelProto]
    row: tuple[int, ...]
    classes: int


def _cnn(rng: np.random.Generator) -> onnx.ModelProto:
    shapes = {
        "conv1.weight": (10, 1, 5, 5),
        "conv1.bias": (10,),
        "conv2.weight": (20, 10, 5, 5),
        "conv2.bias": (20,),
        "fc1.weight": (50, 320),
        "fc1.bias": (50,),
        "fc2.weight": (10, 50),
        "fc2.bias": (10,),
    }
    nodes = [
        node("Conv", ["x", "conv1.weight", "conv1.bias"], ["a"]),
        node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Relu", ["b"], ["c"]),
        node("Conv", ["c", "conv2.weight", "conv2.bias"], ["d"]),
        node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Relu", ["e"], ["f"]),
        node("Flatten", ["f"], ["g"]),
        node("Gemm", ["g", "fc1.weight", "fc1.bias"], ["h"], transB=1),
        node("Relu", ["h"], ["i"]),
        node("Gemm", ["i", "fc2.weight", "fc2.bias"], ["out"], transB=1),
    ]
    return network_model(nodes, shapes, rng, (1, 28, 28), 10)


def _perceptron(rng: np.random.Generator) -> onnx.ModelProto:
    shapes = {"w": (128, 784), "b": (128,), "v": (10, 128), "c": (10,)}
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], transB=1),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "v", "c"], ["out"], transB=1),
    ]
    return network_model(nodes, shapes, rng, (784,), 10)


def sensor_model(rng: np.random.Generator, width: int = 1) -> onnx.ModelProto:
    """Convolutions over time, with 16 and 32 times `width` channels."""
    first, second = 16 * width, 32 * width
    shapes = {
        "w1": (first, 9, 5),
        "b1": (first,),
        "w2": (second, first, 5),
        "b2": (second,),
        "w3": (6, second),
        "b3": (6,),
    }
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["a"], pads=[2, 2]),
        node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[4], strides=[4]),
        node("Conv", ["c", "w2", "b2"], ["d"], pads=[2, 2]),
        node("Relu", ["d"], ["e"]),
        node("GlobalAveragePool", ["e"], ["f"]),
        node("Flatten", ["f"], ["g"]),
        node("Gemm", ["g", "w3", "b3"], ["out"], transB=1),
    ]
    return network_model(nodes, shapes, rng, (9, 128), 6)


def _gru(rng: np.random.Generator) -> onnx.ModelProto:
    shapes = {
        "w": (1, 96, 9),
        "r": (1, 96, 32),
        "b": (1, 192),
        "v": (6, 32),
        "c": (6,),
    }
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node(
            "GRU", ["t", "w", "r", "b"], ["", "last"],
            hidden_size=32, linear_before_reset=1,
        ),
        node("Transpose", ["last"], ["l"], perm=[1, 0, 2]),
        node("Flatten", ["l"], ["f"]),
        node("Gemm", ["f", "v", "c"], ["out"], transB=1),
    ]  # fmt: skip  # a table
    return network_model(nodes, shapes, rng, (32, 9), 6)


def network_model(
    nodes: list[onnx.NodeProto],
    shapes: Shapes,
    rng: np.random.Generator,
    row: tuple[int, ...],
    classes: int,
) -> onnx.ModelProto:
    """A model of scores with normal weights of these shapes."""
    weights = []
    for name, shape in shapes.items():
        spread = 1 / math.sqrt(math.prod(shape[1:]))
        values = (rng.standard_normal(shape) * spread).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *row])
    scores = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", classes])
    graph = helper.make_graph(nodes, "network", [entry], [scores], weights)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


NETWORKS: dict[str, Network] = {
    "cnn": Network(_cnn, (1, 28, 28), 10),
    "perceptron": Network(_perceptron, (784,), 10),
    "sensor": Network(sensor_model, (9, 128), 6),
    "gru": Network(_gru, (32, 9), 6),
}
