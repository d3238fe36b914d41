"""Branches whose condition is known before any example is: they are no branches.

PyTorch's older exporter asks whether an axis has size 1 before it takes it away, and
writes both answers into the file. Where the condition follows from shapes alone, and is
the same for each size of a batch, the branch that is taken stands in the graph itself.
A batch of one may be answered otherwise where both branches hold the same values, as
where the batch itself would be taken away.

Source: the operator If of ONNX.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from starling.compiler.errors import CompileError
from starling.compiler.ir.network import Array
from starling.compiler.rewrite.frontends.node_writer import refused
from starling.compiler.rewrite.model_inputs import inputs
from starling.compiler.rewrite.shape_inference import known_values

_HERE = onnx.TensorProto.DEFAULT
DECISIONS_MAX = 64
"""Branches of one model; each is decided by what stands before it."""
_SINGLE, _SEVERAL = 1, (2, 61, 67)
"""Batches that a condition is asked for: what compares a size compares it with 1."""
_SHAPING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Their outputs are their first inputs' values, in the same order."""


def decided(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model without the branches that are decided already; others stay.

    Args:
      proto: Of checked names, which is not changed.

    Raises:
      CompileError: If the size of the batch decides between other values.
    """
    if all(node.op_type != "If" for node in proto.graph.node):
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    # The first one each time, since a branch that is taken may hold further ones.
    for _ in range(DECISIONS_MAX):
        nodes = list(found.graph.node)
        branches = [k for k, n in enumerate(nodes) if n.op_type == "If" and n.input]
        place = next(iter(branches), None)
        if place is None:
            break
        condition = _condition(found, nodes[:place], nodes[place])
        taken = None if condition is None else _taken(nodes[place], taken=condition)
        if taken is None:
            break
        body, tensors = taken
        before = [_copy(node) for node in nodes[:place]]
        behind = [_copy(node) for node in nodes[place + 1 :]]
        del found.graph.node[:]
        found.graph.node.extend([*before, *body, *behind])
        found.graph.initializer.extend(tensors)
    return found


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    return made


def _condition(
    proto: onnx.ModelProto, before: Sequence[onnx.NodeProto], branch: onnx.NodeProto
) -> bool | None:
    """Value of a branch's condition for any batch; None if examples decide."""
    for tensor in proto.graph.initializer:
        if tensor.name == branch.input[0]:
            return _truth(numpy_helper.to_array(tensor))
    wanted, nodes = {branch.input[0]}, []
    for node in reversed(before):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(node.input)
    entries = inputs(proto)
    if not branch.input[0] or not entries or any(_has_graph(node) for node in nodes):
        return None
    part = onnx.ModelProto()
    part.CopyFrom(proto)
    del part.graph.node[:], part.graph.output[:]
    part.graph.node.extend(nodes[::-1])
    part.graph.output.add(name=branch.input[0])
    sizes = (_SINGLE, *_SEVERAL)
    answers = [_answer(part, entries, branch.input[0], size) for size in sizes]
    if None in answers:
        return None
    single, *several = answers
    # Each example is computed as in a batch of any size, so that what one alone gives
    # must be what it gives among others.
    same = {*several} == {single} or (len({*several}) == 1 and _reshapes_alone(branch))
    if not same:
        raise refused(
            branch,
            "the size of the batch decides which branch is taken, so that an example "
            "alone gives other values than among others; write the model for any "
            "batch, and export it again",
        )
    return several[0]


def _answer(
    part: onnx.ModelProto,
    entries: Sequence[onnx.ValueInfoProto],
    name: str,
    size: int,
) -> bool | None:
    """Value of a condition for a batch of so many; None if examples decide."""
    try:
        value = known_values(part, entries, size).get(name)
    # Whoever compiles it is told of the branch, which stays.
    except (CompileError, LookupError, TypeError, ValueError):
        return None
    return None if value is None else _truth(value)


def _reshapes_alone(branch: onnx.NodeProto) -> bool:
    """True if both branches hold the same values, whatever shapes they have."""
    graphs = [item.g for item in branch.attribute if item.HasField("g")]
    sources = [[_source(graph, item.name) for item in graph.output] for graph in graphs]
    return len(sources) == 2 and sources[0] == sources[1] and None not in sources[0]


def _source(graph: onnx.GraphProto, name: str) -> str | None:
    """The value outside of a branch that is only shaped anew; None if there is none."""
    made = {output: node for node in graph.node for output in node.output}
    for _ in graph.node:
        node = made.get(name)
        if node is None or node.op_type not in _SHAPING or not node.input:
            break
        name = node.input[0]
    own = {*made, *[item.name for item in graph.initializer]}
    return None if name in own else name


def _truth(value: Array) -> bool | None:
    if value.dtype != np.bool_ or value.size != 1:
        return None
    return bool(value.reshape(-1)[0])


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    held = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    return [*graph.initializer, *held]


def _has_graph(node: onnx.NodeProto) -> bool:
    return any(item.HasField("g") or item.graphs for item in node.attribute)


def _taken(
    branch: onnx.NodeProto, *, taken: bool
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]] | None:
    """Nodes and tensors of the branch that is taken, under names of their own."""
    wanted = "then_branch" if taken else "else_branch"
    graph = next((a.g for a in branch.attribute if a.name == wanted), None)
    if graph is None or len(graph.output) != len(branch.output):
        return None
    prefix = branch.name or branch.output[0]
    inner = [item.name for item in graph.initializer]
    inner += [name for node in graph.node for name in node.output if name]
    plain = [tensor.data_location == _HERE for tensor in _tensors(graph)]
    # protobuf gives bytes for a name that is not UTF-8, and a tensor outside of the
    # file is not read with the branch.
    if not all(isinstance(name, str) for name in inner) or not all(plain):
        return None
    # A branch sees the names around it, and may use the same ones as the other branch
    # does.
    renamed = {name: f"{prefix}/{name}" for name in inner}
    tensors, nodes = [], []
    for item in graph.initializer:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(item)
        tensor.name = renamed[item.name]
        tensors.append(tensor)
    for item in graph.node:
        node = _copy(item)
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                names[position] = renamed.get(name, name)
        node.name = f"{prefix}/{item.name}"
        nodes.append(node)
    for inside, outside in zip(graph.output, branch.output, strict=True):
        source = renamed.get(inside.name, inside.name)
        nodes.append(helper.make_node("Identity", [source], [outside], outside))
    return nodes, tensors
