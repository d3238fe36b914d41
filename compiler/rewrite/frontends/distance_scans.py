"""Loops over the examples of a batch that are distances, written without a loop.

skl2onnx computes distances to constant rows (of a kernel, or of neighbours) by a
`Scan` over the batch: each step gives the distances of one example, and the rows
pass through. Such a loop is one subtraction and one reduction over the whole batch.

Source: the operator Scan of ONNX, version 9 on.
"""

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from starling.compiler.rewrite.frontends.node_writer import contents

_PLAIN = frozenset({"Abs", "Add", "Identity", "Mul", "Pow", "Sqrt", "Sub"})
_REDUCTIONS = frozenset({"ReduceL2", "ReduceSum", "ReduceSumSquare"})


def unrolled(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with its distances in plain nodes; other loops stay.

    Args:
      proto: Of any form, which is not changed.
    """
    if all(node.op_type != "Scan" for node in proto.graph.node):
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        plain = _distances(node) if node.op_type == "Scan" else None
        nodes += [node] if plain is None else plain
    del found.graph.node[:]
    found.graph.node.extend(nodes)
    return found


def _distances(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """The nodes in the place of a Scan; None if it is another loop."""
    attributes = {
        item.name: helper.get_attribute_value(item) for item in node.attribute
    }
    body = attributes.get("body")
    if body is None or attributes.keys() - {"body", "num_scan_inputs"}:
        return None
    sides = (len(node.input), len(body.input), len(body.output), len(node.output))
    if sides != (2, 2, 2, 2) or attributes.get("num_scan_inputs") != 1:
        return None
    if not all(isinstance(name, str) for name in _names(node, body)):
        return None
    prefix = node.name or node.output[1]
    renamed = {item.name: f"{prefix}/{item.name}" for item in body.initializer} | {
        body.input[0].name: node.input[0],
        body.input[1].name: f"{prefix}/rows",
    }
    # An axis for the constant rows: (n, 1, features) less (rows, features) is every
    # example against every row.
    made = [
        helper.make_node("Constant", [], [f"{prefix}/axis"], value=_last()),
        helper.make_node("Constant", [], [f"{prefix}/middle"], value=_middle()),
        helper.make_node(
            "Unsqueeze", [node.input[1], f"{prefix}/middle"], [f"{prefix}/rows"]
        ),
    ]
    made += [
        helper.make_node("Constant", [], [renamed[item.name]], value=item)
        for item in body.initializer
    ]
    for inner in body.node:
        plain = _moved(inner, body, renamed, prefix)
        if plain is None:
            return None
        made.append(plain)
    rows = renamed.get(body.output[1].name)
    # A state that changes from step to step would make an example depend on those
    # before it.
    if not rows or not _passes(body):
        return None
    made.append(helper.make_node("Identity", [node.input[0]], [node.output[0]]))
    made.append(helper.make_node("Identity", [rows], [node.output[1]]))
    for item in made:
        item.name = item.output[0]
    return made


def _moved(
    inner: onnx.NodeProto,
    body: onnx.GraphProto,
    renamed: dict[str, str],
    prefix: str,
) -> onnx.NodeProto | None:
    """A node of the body for all examples at once; axis 1 of the rows is the last."""
    # Anything else may work along axes, which are others with the examples in front.
    if inner.op_type not in _PLAIN | _REDUCTIONS or len(inner.output) != 1:
        return None
    if not all(name in renamed for name in inner.input):
        return None
    inputs = [renamed[name] for name in inner.input]
    attributes = {a.name: helper.get_attribute_value(a) for a in inner.attribute}
    if inner.op_type in _REDUCTIONS:
        if _axes(inner, body, attributes) != [1]:
            return None
        inputs = [inputs[0], f"{prefix}/axis"]
        attributes.pop("axes", None)
    output = f"{prefix}/{inner.output[0]}"
    renamed[inner.output[0]] = output
    return helper.make_node(inner.op_type, inputs, [output], **attributes)


def _axes(
    inner: onnx.NodeProto, body: onnx.GraphProto, attributes: Mapping[str, object]
) -> list[int]:
    given = attributes.get("axes")
    if isinstance(given, Sequence):
        return [int(axis) for axis in given]
    for item in body.initializer:
        if len(inner.input) > 1 and item.name == inner.input[1]:
            return [int(axis) for axis in contents(item).reshape(-1)]
    return []


def _passes(body: onnx.GraphProto) -> bool:
    """True if the rows that are compared with are the same in each step."""
    made = {node.output[0]: node for node in body.node if node.output}
    name = body.output[0].name
    while name in made and made[name].op_type == "Identity":
        name = made[name].input[0]
    return bool(name == body.input[0].name)


def _names(node: onnx.NodeProto, body: onnx.GraphProto) -> list[object]:
    names: list[object] = [node.name, *node.input, *node.output]
    for inner in body.node:
        names += [inner.op_type, *inner.input, *inner.output]
    return names


def _last() -> TensorProto:
    return helper.make_tensor("axis", TensorProto.INT64, [1], [-1])


def _middle() -> TensorProto:
    return helper.make_tensor("middle", TensorProto.INT64, [1], [1])
