"""Nodes of other toolkits become standard ones, before anything is checked.

skl2onnx writes linear models as operators of a domain of their own, two-class networks
as a probability and its rest, and beside the probabilities a label that nothing can be
trained by. tf2onnx leaves an operator that ONNX does not know. Numbers that no one
trains (of a scaler) become constants, others initialisers.

Source: the operators of the domain ai.onnx.ml, version 1 to 5.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from starling.compiler.errors import CompileError

_DOMAIN = "ai.onnx.ml"
_LABELS = frozenset({TensorProto.INT64, TensorProto.INT32, TensorProto.STRING})


class _Writer:
    """The nodes and initialisers that stand in for others."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self.nodes: list[onnx.NodeProto] = []

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:  # noqa: ANN401 - as ONNX takes them
        made = helper.make_node(kind, inputs, [output], output, **attributes)
        self.nodes.append(made)
        return output

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        tensor = numpy_helper.from_array(values, name)
        return self.node("Constant", [], name, value=tensor)

    def weight(self, name: str, values: NDArray[np.float32]) -> str:
        self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name


_Lower = Callable[[_Writer, onnx.NodeProto, Mapping[str, Any]], None]


def lowered(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in standard operators, as far as they are known here.

    Args:
      proto: Of checked form, which is not changed.

    Raises:
      CompileError: If a linear model makes its probabilities in another way than
        softmax, or the sigmoid of two classes.
    """
    graph = proto.graph
    if not any(node.domain == _DOMAIN or _known(node) for node in graph.node):
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    del found.graph.node[:]
    writer = _Writer(found.graph)
    renamed: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "ZipMap":
            renamed[node.output[0]] = node.input[0]
        elif _known(node):
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            _LOWERED[node.op_type](writer, node, attributes)
        else:
            writer.nodes.append(node)
    ones = {
        item.name
        for item in graph.initializer
        if np.array_equal(numpy_helper.to_array(item).reshape(-1), [1.0])
    }
    _set_outputs(found, renamed)
    wanted = {output.name for output in found.graph.output}
    found.graph.node.extend(_live(_softmaxed(writer.nodes, ones), wanted))
    return found


def _live(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Without what only led to labels."""
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _known(node: onnx.NodeProto) -> bool:
    if node.op_type == "Erfc":
        return not node.domain
    return node.domain == _DOMAIN and node.op_type in (*_LOWERED, "ZipMap")


def _set_outputs(proto: onnx.ModelProto, renamed: Mapping[str, str]) -> None:
    """Leaves out labels; maps of probabilities become the tensor that they hold."""
    outputs = []
    for output in proto.graph.output:
        if output.name in renamed:
            name = renamed[output.name]
            sizes = ["n", "classes"]
            outputs.append(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
            )
        elif output.type.tensor_type.elem_type not in _LABELS:
            outputs.append(output)
    if outputs:
        del proto.graph.output[:]
        proto.graph.output.extend(outputs)


def _linear(writer: _Writer, name: str, x: str, numbers: Mapping[str, Any]) -> str:
    """X times coefficients, plus intercepts: (n, outputs)."""
    intercepts = np.array(numbers.get("intercepts", [0.0]), np.float32)
    table = np.array(numbers["coefficients"], np.float32)
    weight = table.reshape(intercepts.size, -1)
    names = [
        x,
        writer.weight(f"{name}.weight", weight),
        writer.weight(f"{name}.bias", intercepts),
    ]
    return writer.node("Gemm", names, f"{name}/scores", transB=1)


def _classifier(
    writer: _Writer, node: onnx.NodeProto, attributes: Mapping[str, Any]
) -> None:
    how = attributes.get("post_transform", b"NONE")
    numbers, name = dict(attributes), node.name or node.output[1]
    classes = len(attributes.get("intercepts", []))
    if how == b"LOGISTIC" and classes == 2:
        # The sigmoids of -z and z are the softmax of their halves.
        for key in ("coefficients", "intercepts"):
            numbers[key] = [value / 2 for value in attributes[key]]
    elif how not in (b"NONE", b"SOFTMAX") or classes < 2:
        raise CompileError(
            f"{name} ({node.op_type}): scores of one class against the rest; train it "
            "as a multinomial model",
            (node.name,),
        )
    scores = _linear(writer, name, node.input[0], numbers)
    kind = "Identity" if how == b"NONE" else "Softmax"
    writer.node(kind, [scores], node.output[1])


def _regressor(
    writer: _Writer, node: onnx.NodeProto, attributes: Mapping[str, Any]
) -> None:
    name = node.name or node.output[0]
    scores = _linear(writer, name, node.input[0], attributes)
    writer.node("Identity", [scores], node.output[0])


def _scaler(
    writer: _Writer, node: onnx.NodeProto, attributes: Mapping[str, Any]
) -> None:
    name = node.name or node.output[0]
    offset, scale = [
        writer.constant(f"{name}/{key}", np.array(attributes[key], np.float32))
        for key in ("offset", "scale")
    ]
    centred = writer.node("Sub", [node.input[0], offset], f"{name}/centred")
    writer.node("Mul", [centred, scale], node.output[0])


def _normaliser(
    writer: _Writer, node: onnx.NodeProto, attributes: Mapping[str, Any]
) -> None:
    """What comes from a softmax adds up to one already."""
    before = [item for item in writer.nodes if node.input[0] in item.output]
    if attributes.get("norm") != b"L1" or not before or before[0].op_type != "Softmax":
        raise CompileError(
            f"{node.name or node.output[0]} ({node.op_type}): no gradient rule",
            (node.name,),
        )
    softmax = before[0]
    softmax.output[0] = node.output[0]


def _complement(
    writer: _Writer, node: onnx.NodeProto, attributes: Mapping[str, Any]
) -> None:
    """Erfc is 1 - erf."""
    del attributes
    name = node.output[0]
    bent = writer.node("Erf", [node.input[0]], f"{name}/erf")
    one = writer.constant(f"{name}/one", np.array(1, np.float32))
    writer.node("Sub", [one, bent], name)


_LOWERED: Mapping[str, _Lower] = {
    "Erfc": _complement,
    "LinearClassifier": _classifier,
    "LinearRegressor": _regressor,
    "Normalizer": _normaliser,
    "Scaler": _scaler,
}


def _softmaxed(nodes: list[onnx.NodeProto], ones: set[str]) -> list[onnx.NodeProto]:
    """A probability p = sigmoid(z) beside 1 - p becomes the softmax of -z/2 and z/2."""
    made = {name: node for node in nodes for name in node.output}
    found = []
    for node in nodes:
        score = _two_classes(node, made, ones)
        if score is None:
            found.append(node)
            continue
        name = node.output[0]
        halves = numpy_helper.from_array(np.array([[-0.5, 0.5]], np.float32))
        found += [
            helper.make_node("Constant", [], [f"{name}/halves"], value=halves),
            helper.make_node("Mul", [score, f"{name}/halves"], [f"{name}/scores"]),
            helper.make_node("Softmax", [f"{name}/scores"], [name], axis=1),
        ]
    return found


def _two_classes(
    node: onnx.NodeProto, made: Mapping[str, onnx.NodeProto], ones: set[str]
) -> str | None:
    """The score z where a node joins 1 - sigmoid(z) and sigmoid(z)."""
    if node.op_type != "Concat" or len(node.input) != 2:
        return None
    rest, share = made.get(node.input[0]), made.get(node.input[1])
    if rest is None or share is None or share.op_type != "Sigmoid":
        return None
    same = rest.op_type == "Sub" and rest.input[1] == node.input[1]
    same = same and rest.input[0] in ones
    return str(share.input[0]) if same else None
