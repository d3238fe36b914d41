"""The nodes of a model as the compiler reads them, without those that lead nowhere."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import onnx
from onnx import helper

from starling.compiler.ir.network import NetworkNode
from starling.compiler.rewrite.batch.batch_axis import RESHAPING

_DEFAULT_DOMAINS = ("", "ai.onnx")
_SHAPED = dict.fromkeys(RESHAPING | {"Expand"}, 1) | {"Resize": 3}
"""How many inputs count: shapes come from inference, not from what the model computes
for them."""

_TRAINING = "training_mode"
"""Of normalisations; 0, which exporters write, says what its absence says."""


def with_names(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without outputs that have no name.

    An output that is left out has an empty name where others follow it; it is given
    one, so that no value is called so.

    Args:
      proto: A checked model, which is not changed.
    """
    if all(output for node in proto.graph.node for output in node.output):
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    taken = {output for node in found.graph.node for output in node.output}
    for node in found.graph.node:
        outputs = list(node.output)
        # Outputs left out at the end need no name: nothing follows them.
        while outputs and not outputs[-1]:
            outputs.pop()
        last = outputs[-1] if outputs else node.name
        for index, output in enumerate(outputs):
            name = output or f"{last}/output {index}"
            outputs[index] = name if output or name not in taken else f"{name}/unnamed"
        del node.output[:]
        node.output.extend(outputs)
    return found


def node_of(item: onnx.NodeProto) -> NetworkNode:
    """One node; what has no name is called after its first output."""
    domain = "" if item.domain in _DEFAULT_DOMAINS else f"{item.domain}."
    return NetworkNode(
        kind=f"{domain}{item.op_type}",
        name=item.name or next(iter(item.output), ""),
        inputs=tuple(item.input),
        outputs=tuple(item.output),
        attributes={
            a.name: helper.get_attribute_value(a)
            for a in item.attribute
            if a.name != _TRAINING or a.i
        },
    )


def live(nodes: Sequence[NetworkNode], wanted: Collection[str]) -> list[NetworkNode]:
    """Leaves out what reaches no output, such as a model's arithmetic of shapes."""
    wanted = set(wanted)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            if node.kind in _SHAPED:
                # Cut before its inputs count as wanted, or the arithmetic of shapes
                # would stay alive.
                node = replace(node, inputs=node.inputs[: _SHAPED[node.kind]])
            kept.append(node)
            wanted.update([name for name in node.inputs if name])
    return kept[::-1]
