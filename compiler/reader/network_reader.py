"""Turns a checked model into a `Network`, and chooses what is trained.

Every operator without a rule is named in one error. Weights are the float initialisers
that stand where some rule expects them; patterns choose among them.
"""

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import defs, helper, numpy_helper

from starling.compiler.autodiff.rules import RULES
from starling.compiler.autodiff.tape import copy
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import OPSET
from starling.compiler.ir.network import Array, Network, NetworkNode
from starling.compiler.reader.model_file import opset
from starling.compiler.reader.model_inputs import inputs, joined, tables
from starling.compiler.rewrite.batch_axis import RESHAPING, Rewriter
from starling.compiler.rewrite.constant_folding import FOLDABLE
from starling.compiler.rewrite.exporter_fixups import exporters_own, parted, plain_casts
from starling.compiler.rewrite.shape_inference import Extent, InferredShapes, infer
from starling.protocol.errors import ConfigError, DecodeError, LimitError
from starling.protocol.model.parameter_layout import DIMENSION_MAX

_DEFAULT_DOMAINS = ("", "ai.onnx")


def read_network(
    proto: onnx.ModelProto, train: Sequence[str] = (), output: str | None = None
) -> Network:
    """Turns a checked model into nodes, parameters and shapes.

    Args:
      proto: As `reader.model_file.load` returns it.
      train: Patterns of initialiser names; only these are trained. Empty trains every
        weight that a rule knows.
      output: Name of the output that the loss reads, where the model has several.

    Raises:
      CompileError: If an operator has no rule or takes another form in the operator
        set that is written, a shape stays open, or there is nothing to train.
      ConfigError: If a pattern matches no weight, or there is no such output.
      LimitError: If more than `DIMENSION_MAX` values would be trained.
    """
    proto = joined(plain_casts(parted(_with_one_output(proto, output))))
    graph = proto.graph
    initialisers = {item.name: _array(item) for item in graph.initializer}
    entry = inputs(proto)[0]
    wanted = {item.name for item in graph.output}
    nodes = _live([_node(item) for item in graph.node], wanted)
    _check_rules(nodes, opset(proto), RULES.keys() | FOLDABLE | {"Constant"})
    weights = _weights(nodes, initialisers)
    chosen = _chosen(weights, train)
    parameters = {name: initialisers[name].astype(np.float32) for name in chosen}
    _check_values(parameters)
    found = infer(proto, entry, weights)
    constants = {
        **{k: v for k, v in initialisers.items() if k not in parameters},
        **found.constants,
        **{_once(name): value for name, value in found.repeated.items()},
    }
    nodes = _live(_without_constants(nodes, found), wanted)
    _check_rules(nodes, opset(proto), RULES)
    rewriter = Rewriter(_extents(found, constants), constants, entry.name)
    for node in nodes:
        rewriter.add(_sized(node, found))
    return _network(proto, rewriter, entry, parameters, weights)


def _with_one_output(proto: onnx.ModelProto, output: str | None) -> onnx.ModelProto:
    """The part of a model that one output needs."""
    names = [item.name for item in proto.graph.output]
    if output is None and len(names) != 1:
        raise CompileError(
            f"the model has {len(names)} outputs ({', '.join(names)[:200]}); exactly "
            "one can be trained: choose it with --output"
        )
    if output is not None and output not in names:
        known = ", ".join(names)[:200]
        raise ConfigError(f"{output!r} is none of the outputs: {known}", key="--output")
    chosen = output or names[0]
    wanted, nodes = {chosen}, []
    for node in reversed(proto.graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(node.input)
    part = onnx.ModelProto()
    part.CopyFrom(proto)
    del part.graph.node[:], part.graph.output[:]
    part.graph.node.extend(nodes[::-1])
    part.graph.output.extend([i for i in proto.graph.output if i.name == chosen])
    return part


def _network(
    proto: onnx.ModelProto,
    rewriter: Rewriter,
    entry: onnx.ValueInfoProto,
    parameters: Mapping[str, NDArray[np.float32]],
    weights: Sequence[str],
) -> Network:
    nodes, shapes, name = rewriter.nodes, rewriter.shapes, entry.name
    output = proto.graph.output[0].name
    if output in rewriter.layouts and not rewriter.layouts[output].plain:
        raise CompileError("the output's first axis is not the batch alone")
    kind = entry.type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        # Boards feed float32 alone; whole numbers up to 2^24 survive that.
        name = f"{entry.name}/float"
        shapes[name] = shapes[entry.name]
        nodes = [
            NetworkNode("Cast", entry.name, (name,), (entry.name,), {"to": kind}),
            *nodes,
        ]
    return Network(
        name=proto.graph.name or "model",
        nodes=tuple(nodes),
        constants=_used(nodes, rewriter.constants, weights),
        parameters=parameters,
        frozen=tuple([item for item in weights if item not in parameters]),
        shapes=shapes,
        input=name,
        output=output,
        tables=tables(proto),
    )


def _used(
    nodes: Sequence[NetworkNode], constants: Mapping[str, Array], weights: Sequence[str]
) -> dict[str, Array]:
    read = {name for node in nodes for name in node.inputs} | {*weights}
    return {name: value for name, value in constants.items() if name in read}


def _once(name: str) -> str:
    """How a constant is called before it is repeated along the batch."""
    return f"{name}/once"


def _extents(
    found: InferredShapes, constants: Mapping[str, Array]
) -> dict[str, Extent]:
    given = {name: Extent(value.shape, None) for name, value in constants.items()}
    return {**given, **found.extents}


def _without_constants(
    nodes: Sequence[NetworkNode], found: InferredShapes
) -> list[NetworkNode]:
    """Leaves out what is known already; repeated constants are expanded."""
    kept = []
    for node in nodes:
        first = node.outputs[0]
        if first in found.repeated:
            made = NetworkNode("Expand", node.name, (_once(first),), (first,), {})
            kept.append(made)
        elif first not in found.constants and first not in found.sizes:
            kept.append(node)
    return kept


def _sized(node: NetworkNode, found: InferredShapes) -> NetworkNode:
    """Refuses sizes of the batch where they do not merely say the output's shape.

    Raises:
      CompileError: Naming the node.
    """
    if found.sizes.intersection(node.inputs):
        raise CompileError(
            f"{node.label}: computes with the size of the batch", (node.name,)
        )
    return node


def _node(item: onnx.NodeProto) -> NetworkNode:
    domain = "" if item.domain in _DEFAULT_DOMAINS else f"{item.domain}."
    return NetworkNode(
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


_SHAPED = dict.fromkeys(RESHAPING | {"Expand"}, 1) | {"Resize": 3}
"""How many inputs count: shapes come from inference, not from what the model computes
for them."""


def _live(nodes: Sequence[NetworkNode], wanted: set[str]) -> list[NetworkNode]:
    """Leaves out what reaches no output, such as a model's arithmetic of shapes."""
    wanted = set(wanted)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            if node.kind in _SHAPED:
                node = replace(node, inputs=node.inputs[: _SHAPED[node.kind]])
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


def _check_rules(
    nodes: Sequence[NetworkNode], version: int, known: Collection[str]
) -> None:
    missing = [
        node
        for node in nodes
        if node.kind not in known or not _same_form(node, version)
    ]
    if missing:
        shown = ", ".join([node.label for node in missing])
        raise CompileError(
            f"no gradient rule for {len(missing)} nodes: {shown}",
            tuple([node.name for node in missing]),
        )


def _same_form(node: NetworkNode, version: int) -> bool:
    """Whether the node's rule understands the form that the version gives it.

    Rules that write the operator themselves read every form; others copy it into the
    set that we write.
    """
    if node.kind not in RULES or RULES[node.kind].forward is not copy:
        return True
    ours = defs.get_schema(node.kind, OPSET)
    theirs = defs.get_schema(node.kind, version)
    same = ours.since_version == theirs.since_version
    return same or _signature(ours) == _signature(theirs)


def _signature(schema: defs.OpSchema) -> tuple[object, ...]:
    """What distinguishes versions beyond the element types that they accept."""
    return (
        [item.name for item in schema.inputs],
        [item.name for item in schema.outputs],
        sorted(schema.attributes),
    )


def _weights(
    nodes: Sequence[NetworkNode], initialisers: Mapping[str, Array]
) -> list[str]:
    """Float initialisers with at least one axis that stand where weights belong."""
    places = {
        node.inputs[position]
        for node in nodes
        if node.kind in RULES
        for position in RULES[node.kind].trainable
        if position < len(node.inputs)
    }
    places |= _through(nodes, places)
    return [
        name
        for name in initialisers
        if name in places
        and initialisers[name].dtype == np.float32
        and initialisers[name].ndim > 0
        and not exporters_own(name, initialisers[name], nodes)
    ]


_MOVERS = frozenset(
    {
        "Concat",
        "Expand",
        "Flatten",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)


def _through(nodes: Sequence[NetworkNode], places: set[str]) -> set[str]:
    """Initialisers that become weights by being moved, such as transposed ones."""
    found: set[str] = set()
    for node in reversed(nodes):
        if node.kind in _MOVERS and {*places, *found}.intersection(node.outputs):
            found.update(node.inputs if node.kind == "Concat" else node.inputs[:1])
    return found


def matching(weights: Sequence[str], patterns: Sequence[str], option: str) -> list[str]:
    """The weights whose names match one of the patterns, as a shell knows them.

    Args:
      weights: Names.
      patterns: Each must match one of them.
      option: That the patterns came from, for messages.

    Raises:
      ConfigError: If a pattern matches none.
    """
    for pattern in patterns:
        if not fnmatch.filter(weights, pattern):
            known = ", ".join(weights)[:300]
            raise ConfigError(
                f"{pattern!r} matches none of the weights: {known}", key=option
            )
    return [
        name
        for name in weights
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]


def _chosen(weights: Sequence[str], train: Sequence[str]) -> list[str]:
    if not train:
        return list(weights)
    return matching(weights, train, "--train")


def _check_values(parameters: Mapping[str, np.ndarray]) -> None:
    size = sum([array.size for array in parameters.values()])
    if size == 0:
        raise CompileError("the model has no weights that could be trained")
    if size > DIMENSION_MAX:
        raise LimitError(f"{size} values to train, {DIMENSION_MAX} allowed")
    for name, array in parameters.items():
        if not np.isfinite(array).all():
            raise CompileError(f"the weight {name!r} holds what is no finite number")
