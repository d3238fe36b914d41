"""Recurrent layers with the one bias that Keras gives them.

ONNX's LSTM, RNN and GRU add two biases, one of the input and one of the state before.
Keras has the first alone, but for GRUs that reset after the product; tf2onnx writes
zeros for the second, which would be trained beside it. Keras starts from zeros, too.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from starling.compiler.ir.network import Array, NetworkNode

RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
_EXPORTER = "tf2onnx"
_STATES = slice(5, 7)
"""Inputs that hold the first states."""
_MOVER_NAMES = "Cast Expand Flatten Identity Reshape Squeeze Transpose Unsqueeze"
_MOVERS = frozenset(_MOVER_NAMES.split())
_BIAS = 3
"""Input that holds both biases, (directions, 2 k)."""


def with_one_bias(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, in which zeros take the place of the second bias.

    Args:
      proto: A checked model, which is not changed.
    """
    layers = [node for node in proto.graph.node if _has_one(node)]
    # In PyTorch's files a second bias of zeros is a fresh parameter.
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
    return node.op_type in RECURRENT and len(node.input) > _BIAS and not after


def _halved(graph: onnx.GraphProto, tensor: onnx.TensorProto) -> onnx.NodeProto | None:
    """Keeps the first half if the rest is zero; the node that puts zeros behind it."""
    values = numpy_helper.to_array(tensor)
    size = values.shape[1] // 2
    # Then the model does have two.
    if values[:, size:].any():
        return None
    tensor.CopyFrom(numpy_helper.from_array(values[:, :size].copy(), tensor.name))
    pads = numpy_helper.from_array(np.array([0, 0, 0, size]), f"{tensor.name}/pads")
    graph.initializer.append(pads)
    return helper.make_node("Pad", [tensor.name, pads.name], [f"{tensor.name}/both"])


def blank_states(
    nodes: Sequence[NetworkNode], tensors: Mapping[str, Array]
) -> frozenset[str]:
    """Names of tensors of zeros that recurrent layers start from.

    Args:
      nodes: Of the model, in order.
      tensors: Name to value of each initialiser.
    """
    found = {
        name
        for node in nodes
        if node.kind in RECURRENT
        for name in node.inputs[_STATES]
    }
    for node in reversed(nodes):
        if node.kind in _MOVERS and found.intersection(node.outputs):
            found.add(node.inputs[0])
    kept = found & tensors.keys()
    return frozenset([name for name in kept if not tensors[name].any()])
