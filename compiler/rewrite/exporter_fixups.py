"""Takes back what exporters do to the weights of a model.

A model that has never been trained holds many equal tensors: the gains and biases of
all its normalisations, the layers of an encoder that were copied from one. PyTorch's
exporters keep one of each and let all nodes read it, which says nothing while a model
is only used, but would train them as one weight.
"""

import ast
import re
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper
from onnx.shape_inference import infer_shapes

from starling.compiler.ir.network import Array, NetworkNode

_SCOPES = "pkg.torch.onnx.name_scopes"
_STATISTICS = (3, 4)
"""Inputs of a batch normalisation that are never trained."""


def parted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model whose merged tensors stand for themselves again.

    The exporter built on TorchScript leaves an Identity with the name of each tensor
    that it merged. Statistics of batch normalisations become tensors of their own in
    any case, as they are constants where an equal gain is a weight.

    Args:
      proto: A checked model, which is not changed.
    """
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    graph = found.graph
    tensors = {item.name: item for item in graph.initializer}
    outputs = {item.name for item in graph.output}
    nodes = []
    for node in graph.node:
        merged = node.op_type == "Identity" and node.input[0] in tensors
        if merged and node.output[0] not in outputs:
            _add(graph, tensors, tensors[node.input[0]], node.output[0])
        else:
            nodes.append(node)
    for node in nodes:
        if node.op_type == "BatchNormalization":
            _part_statistics(graph, tensors, node)
    kept = [_copy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return found


def _part_statistics(
    graph: onnx.GraphProto,
    tensors: dict[str, onnx.TensorProto],
    node: onnx.NodeProto,
) -> None:
    for position in _STATISTICS:
        name = node.input[position]
        if name in tensors:
            node.input[position] = f"{name}/statistics"
            if node.input[position] not in tensors:
                _add(graph, tensors, tensors[name], node.input[position])


def _add(
    graph: onnx.GraphProto,
    tensors: dict[str, onnx.TensorProto],
    like: onnx.TensorProto,
    name: str,
) -> None:
    made = graph.initializer.add()
    made.CopyFrom(like)
    made.name = name
    tensors[name] = made


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    return made


def plain_casts(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with casts that name their type, where ONNX infers it.

    PyTorch's newer exporter writes `CastLike` when it does not optimise.

    Args:
      proto: A checked model, which is not changed.
    """
    if all(node.op_type != "CastLike" for node in proto.graph.node):
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    graph = infer_shapes(proto).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        kinds[info.name] = info.type.tensor_type.elem_type
    for node in found.graph.node:
        if node.op_type == "CastLike" and kinds.get(node.input[1]):
            node.op_type = "Cast"
            node.attribute.append(helper.make_attribute("to", kinds[node.input[1]]))
            del node.input[1]
    return found


def merged(proto: onnx.ModelProto, weights: Sequence[str]) -> tuple[str, ...]:
    """Weights that PyTorch's newer exporter may have merged with others.

    It leaves no trace of a merger but the modules that nodes came from: a tensor that
    is called after one module and read in another. A weight that the model does share
    looks the same.

    Args:
      proto: A checked model.
      weights: Names of what is trained.

    Returns:
      Those names, in order.
    """
    found = set()
    for node in proto.graph.node:
        text = next((p.value for p in node.metadata_props if p.key == _SCOPES), "")
        module = _module(text)
        for name in node.input:
            owner = name.rpartition(".")[0]
            if module and owner and name in weights and not _within(owner, module):
                found.add(name)
    return tuple([name for name in weights if name in found])


def _module(text: str) -> str:
    """The path of the module that a node came from; empty if nothing says it."""
    try:
        scopes = ast.literal_eval(text) if text else []
    except (SyntaxError, ValueError):
        return ""
    paths = [part for part in scopes[:-1] if isinstance(part, str)]
    return str(paths[-1]) if paths else ""


def _within(owner: str, module: str) -> bool:
    """Whether one path is the other or leads to it."""
    return f"{owner}.".startswith(f"{module}.") or f"{module}.".startswith(f"{owner}.")


_NUMBERED = re.compile(r"val_[0-9]+")
"""What PyTorch's exporter calls a tensor that the model has no name for."""


def exporters_own(name: str, array: Array, nodes: Sequence[NetworkNode]) -> bool:
    """Whether a tensor is a number of the exporter's and no weight of the model.

    Such are the factors of an attention and the gains of one that it gives to an
    instance normalisation when it means a group normalisation. Weights that were only
    turned round have numbers for names too, so values and place decide.
    """
    if not _NUMBERED.fullmatch(name):
        return False
    filler = any(
        name in node.inputs[1:]
        for node in nodes
        if node.kind == "InstanceNormalization"
    )
    return array.size == 1 or (filler and float(np.ptp(array)) == 0.0)
