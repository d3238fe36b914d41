"""Turns a checked model into a `Network`, and chooses what is trained.

Every operator without a rule is named in one error. Weights are the float initialisers
that stand where some rule expects them; patterns choose among them.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

from compiler.builder import OPSET
from compiler.errors import CompileError
from compiler.network import Array, Network, Node
from compiler.rules import RULES
from compiler.shapes import infer
from compiler.source import opset
from protocol.bundle import DIMENSION_MAX
from protocol.errors import ConfigError, DecodeError, LimitError

_DEFAULT_DOMAINS = ("", "ai.onnx")


def read_network(proto: onnx.ModelProto, train: Sequence[str] = ()) -> Network:
    """Turns a checked model into nodes, parameters and shapes.

    Args:
      proto: As `source.load` returns it.
      train: Patterns of initialiser names; only these are trained. Empty trains every
        weight that a rule knows.

    Raises:
      CompileError: If an operator has no rule or takes another form in the operator
        set that is written, a shape stays open, or there is nothing to train.
      ConfigError: If a pattern matches no weight.
      LimitError: If more than `DIMENSION_MAX` values would be trained.
    """
    graph = proto.graph
    constants = {item.name: _array(item) for item in graph.initializer}
    initialisers = tuple(constants)
    nodes = []
    for item in graph.node:
        if item.op_type == "Constant" and item.domain in _DEFAULT_DOMAINS:
            constants[item.output[0]] = _constant(item)
        else:
            nodes.append(_node(item))
    nodes = _live(nodes, {item.name for item in graph.output})
    _check_rules(nodes, opset(proto))
    inputs = [item for item in graph.input if item.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise CompileError(
            f"the model has {len(inputs)} inputs and {len(graph.output)} outputs; "
            "exactly one of each can be trained"
        )
    weights = _weights(nodes, constants, initialisers)
    chosen = _chosen(weights, train)
    parameters = {name: constants.pop(name).astype(np.float32) for name in chosen}
    _check_values(parameters)
    return Network(
        name=graph.name or "model",
        nodes=tuple(nodes),
        constants=constants,
        parameters=parameters,
        frozen=tuple([name for name in weights if name not in parameters]),
        shapes=infer(proto, inputs[0], nodes),
        input=inputs[0].name,
        output=graph.output[0].name,
    )


def _node(item: onnx.NodeProto) -> Node:
    domain = "" if item.domain in _DEFAULT_DOMAINS else f"{item.domain}."
    return Node(
        kind=f"{domain}{item.op_type}",
        name=item.name or item.output[0],
        inputs=tuple(item.input),
        outputs=tuple(item.output),
        attributes={a.name: helper.get_attribute_value(a) for a in item.attribute},
    )


def _array(tensor: onnx.TensorProto) -> Array:
    try:
        return numpy_helper.to_array(tensor)
    # Unknown element types, and values of another number than the shape has.
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"model: the tensor {tensor.name!r} is malformed") from error


def _constant(item: onnx.NodeProto) -> Array:
    attribute = item.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return _array(value)
    kinds = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    if attribute.name not in kinds:
        raise CompileError(
            f"{item.name or item.output[0]} (Constant): holds {attribute.name}",
            (item.name,),
        )
    return np.array(value, kinds[attribute.name])


_RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""Their rules take shapes from inference, not from what the model computes for them."""


def _live(nodes: Sequence[Node], wanted: set[str]) -> list[Node]:
    """Leaves out what reaches no output, such as a model's arithmetic of shapes."""
    wanted = set(wanted)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            if node.kind in _RESHAPING:
                node = replace(node, inputs=node.inputs[:1])
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


def _check_rules(nodes: Sequence[Node], version: int) -> None:
    missing = [node for node in nodes if not _has_rule(node, version)]
    if missing:
        shown = ", ".join([node.label for node in missing])
        raise CompileError(
            f"no gradient rule for {len(missing)} nodes: {shown}",
            tuple([node.name for node in missing]),
        )


_SAME_FORM = _RESHAPING | {
    "AveragePool",
    "BatchNormalization",
    "ReduceMean",
    "ReduceSum",
}
"""Operators whose rules accept the form of each version and write that of ours."""


def _has_rule(node: Node, version: int) -> bool:
    """Whether there is a rule, and the node means the same in the set we write."""
    if node.kind not in RULES:
        return False
    ours = defs.get_schema(node.kind, OPSET)
    theirs = defs.get_schema(node.kind, version)
    same = ours.since_version == theirs.since_version
    return same or node.kind in _SAME_FORM or _signature(ours) == _signature(theirs)


def _signature(schema: defs.OpSchema) -> tuple[object, ...]:
    """What distinguishes versions beyond the element types that they accept."""
    return (
        [item.name for item in schema.inputs],
        [item.name for item in schema.outputs],
        sorted(schema.attributes),
    )


def _weights(
    nodes: Sequence[Node], constants: Mapping[str, Array], initialisers: Sequence[str]
) -> list[str]:
    """Float initialisers with at least one axis that stand where weights belong."""
    places = {
        node.inputs[position]
        for node in nodes
        for position in RULES[node.kind].trainable
        if position < len(node.inputs)
    }
    places |= _through(nodes, places)
    return [
        name
        for name in initialisers
        if name in places
        and constants[name].dtype == np.float32
        and constants[name].ndim > 0
    ]


_MOVERS = frozenset(
    {"Concat", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)


def _through(nodes: Sequence[Node], places: set[str]) -> set[str]:
    """Initialisers that become weights by being moved, such as transposed ones."""
    found: set[str] = set()
    for node in reversed(nodes):
        if node.kind in _MOVERS and {*places, *found}.intersection(node.outputs):
            found.update(node.inputs if node.kind == "Concat" else node.inputs[:1])
    return found


def _chosen(weights: Sequence[str], train: Sequence[str]) -> list[str]:
    for pattern in train:
        if not fnmatch.filter(weights, pattern):
            known = ", ".join(weights)[:300]
            raise ConfigError(
                f"{pattern!r} matches none of the weights: {known}", key="--train"
            )
    if not train:
        return list(weights)
    return [
        name
        for name in weights
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in train)
    ]


def _check_values(parameters: Mapping[str, np.ndarray]) -> None:
    size = sum([array.size for array in parameters.values()])
    if size == 0:
        raise CompileError("the model has no weights that could be trained")
    if size > DIMENSION_MAX:
        raise LimitError(f"{size} values to train, {DIMENSION_MAX} allowed")
    for name, array in parameters.items():
        if not np.isfinite(array).all():
            raise CompileError(f"the weight {name!r} holds what is no finite number")
