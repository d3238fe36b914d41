"""Writes matrix products with vectors as products of matrices, which have a rule.

NumPy's rules for `x @ w` take a factor of one axis as a row or a column and leave its
axis out of the result. Here the axis is put in before the product and taken out behind
it.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.shape_inference import InferenceError, infer_shapes


def with_matrices(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without vectors as factors.

    Args:
      proto: A checked model of operator set 13 or later, which is not changed.
    """
    products = [node for node in proto.graph.node if node.op_type == "MatMul"]
    ranks = _ranks(proto) if products else {}
    if all(1 not in (ranks.get(name) for name in node.input) for node in products):
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    graph = found.graph
    del graph.node[:]
    for node in proto.graph.node:
        if node.op_type == "MatMul" and 1 in [ranks.get(name) for name in node.input]:
            _write(graph, node, ranks)
        else:
            graph.node.append(node)
    return found


def _ranks(proto: onnx.ModelProto) -> Mapping[str, int]:
    """Number of axes of each value, as far as that can be inferred."""
    ranks = {item.name: len(item.dims) for item in proto.graph.initializer}
    try:
        graph = infer_shapes(proto).graph
    # What contradicts itself is refused where shapes are found, with a message.
    except (InferenceError, ValueError):
        return ranks
    for info in (*graph.input, *graph.value_info):
        if info.type.tensor_type.HasField("shape"):
            ranks[info.name] = len(info.type.tensor_type.shape.dim)
    return ranks


def _write(
    graph: onnx.GraphProto, node: onnx.NodeProto, ranks: Mapping[str, int]
) -> None:
    output = node.output[0]
    inputs, left_out = list(node.input), []
    for position, axis in enumerate((0, 1)):
        if ranks.get(inputs[position]) == 1:
            name = f"{output}/{'left' if position == 0 else 'right'}"
            axes = _axes(graph, f"{name}/axes", [axis])
            graph.node.append(
                helper.make_node("Unsqueeze", [inputs[position], axes], [name], name)
            )
            inputs[position] = name
            left_out.append(-2 + axis)
    axes = _axes(graph, f"{output}/axes", left_out)
    product = f"{output}/matrix"
    graph.node.append(helper.make_node("MatMul", inputs, [product], node.name))
    # An exporter's notes on the module stay with the node that holds its weight.
    graph.node[-1].metadata_props.extend(node.metadata_props)
    graph.node.append(
        helper.make_node("Squeeze", [product, axes], [output], f"{output}/vector")
    )


def _axes(graph: onnx.GraphProto, name: str, axes: list[int]) -> str:
    tensor = numpy_helper.from_array(np.array(axes, np.int64), name)
    graph.initializer.append(tensor)
    return name
