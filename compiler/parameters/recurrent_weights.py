"""Recurrent layers with the one bias that Keras gives them.

ONNX's LSTM, RNN and GRU add two biases, one of the input and one of the state before.
Keras has the first alone, but for GRUs that reset after the product; tf2onnx writes
zeros for the second, which would be trained beside it.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

_EXPORTER = "tf2onnx"
_LAYERS = frozenset({"GRU", "LSTM", "RNN"})
_BIAS = 3
"""Input that holds both biases, (directions, 2 k)."""


def with_one_bias(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, in which zeros take the place of the second bias.

    Args:
      proto: A checked model, which is not changed.
    """
    layers = [node for node in proto.graph.node if _has_one(node)]
    if proto.producer_name != _EXPORTER or not layers:
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    graph = found.graph
    read = {node.input[_BIAS] for node in layers}
    halved = {
        item.name: pad
        for item in list(graph.initializer)
        if item.name in read and (pad := _halved(graph, item))
    }
    for node in graph.node:
        if _has_one(node) and node.input[_BIAS] in halved:
            node.input[_BIAS] = halved[node.input[_BIAS]].output[0]
    for pad in halved.values():
        graph.node.insert(0, pad)
    return found


def _has_one(node: onnx.NodeProto) -> bool:
    after = any(a.name == "linear_before_reset" and a.i for a in node.attribute)
    return node.op_type in _LAYERS and len(node.input) > _BIAS and not after


def _halved(graph: onnx.GraphProto, tensor: onnx.TensorProto) -> onnx.NodeProto | None:
    """Keeps the first half if the rest is zero; the node that puts zeros behind it."""
    values = numpy_helper.to_array(tensor)
    size = values.shape[1] // 2
    if values[:, size:].any():
        return None
    tensor.CopyFrom(numpy_helper.from_array(values[:, :size].copy(), tensor.name))
    pads = numpy_helper.from_array(np.array([0, 0, 0, size]), f"{tensor.name}/pads")
    graph.initializer.append(pads)
    return helper.make_node("Pad", [tensor.name, pads.name], [f"{tensor.name}/both"])
