"""Turns a checked model into a `Network`.

Every operator without a rule is named in one error. What is a weight, and which of them
are trained, is chosen before (`parameter_selection`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
from onnx import defs

from starling.compiler.autodiff.rules.rule_table import RULES
from starling.compiler.autodiff.tape import copy
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_writer import OPSET
from starling.compiler.ir.network import Array, Network, NetworkNode
from starling.compiler.parameters.parameter_selection import (
    WeightOptions,
    WeightSelection,
    check,
    choose,
)
from starling.compiler.reader.model_file import opset
from starling.compiler.reader.operand_shapes import check_operands
from starling.compiler.rewrite.batch.batch_axis import REWRITTEN, Rewriter
from starling.compiler.rewrite.batch.fixed_batch import blaming_fixed_batch
from starling.compiler.rewrite.constant_folding import FOLDABLE
from starling.compiler.rewrite.frontends.function_inlining import written_out
from starling.compiler.rewrite.live_nodes import live, node_of
from starling.compiler.rewrite.model_inputs import inputs, tables
from starling.compiler.rewrite.shape_inference import (
    Extent,
    InferredShapes,
    check_sizes,
    infer,
)
from starling.protocol.errors import ConfigError

_ALL = WeightOptions()
_KNOWN = RULES.keys() | REWRITTEN
"""Operators with a rule, or that others take the place of."""
_COMPUTED = frozenset({"bool", "float32", "int32", "int64"})
"""Types of values on boards."""
_TAKING_APART = frozenset({"Slice", "Split"})
"""Operators that may take a joined batch apart by its size."""
_PLAIN = FOLDABLE | {"CastLike", "Constant"}
"""Operators beside those that are understood as they are."""


def read_network(
    proto: onnx.ModelProto, asked: WeightOptions = _ALL, output: str | None = None
) -> Network:
    """Turns a checked model into nodes, parameters and shapes.

    Args:
      proto: As `reader.model_file.load` returns it.
      asked: What the caller says of its weights.
      output: Name of the output that the loss reads, where the model has several.

    Raises:
      CompileError: If an operator has no rule or takes another form in the operator
        set that is written, a shape stays open, or there is nothing to train.
      ConfigError: If a pattern matches no weight, or there is no such output.
      LimitError: If more than `DIMENSION_MAX` values would be trained.
    """
    part = written_out(_with_one_output(proto, output), _KNOWN | _PLAIN)
    choice = choose(part, asked)
    with blaming_fixed_batch(choice.batch):
        return _read(choice)


def _read(choice: WeightSelection) -> Network:
    proto, weights = choice.proto, choice.weights
    entry = inputs(proto)[0]
    wanted = {item.name for item in proto.graph.output}
    nodes = live([node_of(item) for item in proto.graph.node], wanted)
    # Once before shapes are inferred, so that one message names all that is unknown;
    # once behind, for arithmetic that did not fold.
    _check_rules(nodes, opset(proto), _KNOWN | _PLAIN)
    check(choice)
    found = infer(proto, entry, weights)
    check_sizes(nodes, found)
    check_operands(nodes, _extents(found, choice.tensors))
    constants = {
        # Frozen weights are constants of the graphs, but no values that folding may use
        # up: `infer` keeps all weights.
        **{k: v for k, v in choice.tensors.items() if k not in choice.chosen},
        **found.constants,
    }
    nodes = live(_without_constants(nodes, found), wanted)
    _check_rules(nodes, opset(proto), _KNOWN)
    extents = _extents(found, constants)
    rewriter = Rewriter(extents, constants, entry.name, found.repeated, found.sizes)
    for node in nodes:
        rewriter.add(_sized(_copied(node, found, extents), found))
    sizes = {name: extent.values for name, extent in found.extents.items()}
    return _network(rewriter, entry, choice, sizes)


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
    rewriter: Rewriter,
    entry: onnx.ValueInfoProto,
    choice: WeightSelection,
    sizes: Mapping[str, int],
) -> Network:
    nodes, shapes, name = rewriter.nodes, rewriter.shapes, entry.name
    output = choice.proto.graph.output[0].name
    if output in rewriter.layouts and not rewriter.layouts[output].plain:
        raise CompileError(
            f"{output}: the output's first axis is not the batch alone; let it have "
            "one row for each example"
        )
    kind = entry.type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        # Boards feed float32 alone; whole numbers up to 2^24 survive that.
        name = f"{entry.name}/float"
        shapes[name] = shapes[entry.name]
        nodes = [
            NetworkNode("Cast", entry.name, (name,), (entry.name,), {"to": kind}),
            *nodes,
        ]
    _check_types(nodes, rewriter.constants)
    parameters = {n: choice.tensors[n].astype(np.float32) for n in choice.chosen}
    fixed = {k: why for k, why in choice.fixed.items() if k in choice.tensors}
    constants = _used(nodes, rewriter.constants, [*choice.weights, *fixed])
    return Network(
        name=choice.proto.graph.name or "model",
        nodes=tuple(nodes),
        constants=constants,
        parameters=parameters,
        frozen=tuple([item for item in choice.weights if item not in parameters]),
        shapes=shapes,
        input=name,
        output=output,
        tables=tables(choice.proto, sizes),
        fixed=fixed,
        aliases=choice.aliases,
        notes=choice.notes,
        batch=choice.batch,
    )


def _check_types(nodes: Sequence[NetworkNode], constants: Mapping[str, Array]) -> None:
    """Refuses constants that boards could not hold.

    Raises:
      CompileError: Naming the node that reads one.
    """
    for node in nodes:
        for name in node.inputs:
            kind = constants[name].dtype if name in constants else np.dtype(np.float32)
            if kind.name not in _COMPUTED:
                raise CompileError(
                    f"{node.label}: reads {name!r} in {kind.name}; boards compute in "
                    "float32, int32, int64 and bool: cast it to one of them first",
                    (node.name,),
                )


def _used(
    nodes: Sequence[NetworkNode], constants: Mapping[str, Array], weights: Sequence[str]
) -> dict[str, Array]:
    read = {name for node in nodes for name in node.inputs} | {*weights}
    return {name: value for name, value in constants.items() if name in read}


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
            # The rewriter writes the constant for one example and repeats it to the
            # batch.
            kept.append(NetworkNode("Expand", node.name, (), (first,), {}))
        elif first not in found.constants and first not in found.sizes:
            kept.append(node)
    return kept


def _copied(
    node: NetworkNode, found: InferredShapes, extents: Mapping[str, Extent]
) -> NetworkNode:
    """A weight that is written once for each example, as what its shape says."""
    if node.kind != "Tile" or node.inputs[1] not in found.sizes:
        return node
    source, made = extents.get(node.inputs[0]), extents.get(node.outputs[0])
    static = source is not None and source.batch is None
    if source is None or made is None or not static or source.sizes != made.sizes:
        return node
    return replace(node, kind="Expand", inputs=node.inputs[:1], attributes={})


def _sized(node: NetworkNode, found: InferredShapes) -> NetworkNode:
    """Refuses sizes of the batch where they do not merely say the output's shape.

    Raises:
      CompileError: Naming the node.
    """
    # Each example's loss would depend on how many others are in the batch, and so would
    # its gradient, which clipping takes for its own.
    if found.sizes.keys() & {*node.inputs} and node.kind not in _TAKING_APART:
        raise CompileError(
            f"{node.label}: computes with the size of the batch; leave it out, or "
            "compute it before the model",
            (node.name,),
        )
    return node


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
            f"no gradient rule for {len(missing)} nodes: {shown}; leave them out of "
            "the exported model, or compute what they do before it",
            tuple([node.name for node in missing]),
        )


def _same_form(node: NetworkNode, version: int) -> bool:
    """True if the node's rule understands the form that the version gives it.

    Rules that write the operator themselves read every form; others copy it into the
    set that we write.
    """
    if node.kind not in RULES or RULES[node.kind].forward is not copy:
        return True
    return _same_signature(node.kind, version)


@cache
def _same_signature(kind: str, version: int) -> bool:
    ours = defs.get_schema(kind, OPSET)
    theirs = defs.get_schema(kind, version)
    same = ours.since_version == theirs.since_version
    return same or _signature(ours) == _signature(theirs)


def _signature(schema: defs.OpSchema) -> tuple[object, ...]:
    """Signature that distinguishes versions beyond the element types they accept."""
    return (
        [item.name for item in schema.inputs],
        [item.name for item in schema.outputs],
        sorted(schema.attributes),
    )
