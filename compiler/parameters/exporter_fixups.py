"""Takes back what exporters do to the weights of a model.

A model that has never been trained holds many equal tensors: the gains and biases of
all its normalisations, the layers of an encoder that were copied from one. PyTorch's
exporters keep one of each and let all nodes read it, which says nothing while a model
is only used, but would train them as one weight.
"""

import json
import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

from starling.compiler.ir.network import Array, NetworkNode
from starling.compiler.parameters.constant_tensors import alike
from starling.compiler.parameters.exporter_metadata import ExporterMetadata, module
from starling.compiler.rewrite.float32_conversion import FLOATS
from starling.protocol.ids import H
from starling.protocol.model.parameter_layout import NAME_CHARS_MAX

_WRITTEN = "starling.constant_nodes"
_KEPT_CHARS, _DIGEST_CHARS = 160, 16
"""Of a name that is shortened."""
_STATISTICS = (3, 4)
"""Inputs of a batch normalisation that are never trained."""


def parted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model in which tensors that the exporter merged are separate again.

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
        # An output has to be made by a node.
        merged = merged and node.output[0] not in outputs
        if merged and not _same_module(graph, node):
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


def _same_module(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """True if an Identity names another use of one weight, not another weight.

    A tensor that was turned round has a number for a name. One made of a tensor with
    a name is that weight; one made of another such tensor is, if a module that was
    called twice reads both: its second call is numbered.
    """
    source, copy = node.input[0], node.output[0]
    if not _TURNED.fullmatch(copy):
        return False
    if not _TURNED.fullmatch(source):
        return True
    firsts = _callers(graph, source)
    return bool(firsts) and all(
        path in firsts or _called_again(graph, path, firsts)
        for path in _callers(graph, copy)
    )


def _callers(graph: onnx.GraphProto, name: str) -> set[str]:
    """Paths of the modules that read a tensor, as the older exporter names nodes."""
    paths = [node.name.rpartition("/")[0] for node in graph.node if name in node.input]
    return {path for path in paths if path}


def _called_again(graph: onnx.GraphProto, path: str, firsts: set[str]) -> bool:
    """True if a numbered path is another call and no module of that name."""
    module_name = f"{path.strip('/').replace('/', '.')}."
    known = [item.name for item in graph.initializer]
    known += [node.output[0] for node in graph.node if node.op_type == "Identity"]
    own = any(name.startswith(module_name) for name in known)
    return re.sub(r"_[0-9]+$", "", path) in firsts and not own


def _part_statistics(
    graph: onnx.GraphProto,
    tensors: dict[str, onnx.TensorProto],
    node: onnx.NodeProto,
) -> None:
    for position in _STATISTICS:
        name = node.input[position]
        if name in tensors:
            # A fresh mean equals a fresh bias and was merged with it; trained as one,
            # the bias would move the statistics.
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


def _held(node: onnx.NodeProto) -> TensorProto | None:
    """The tensor of a Constant, however it is written."""
    for attribute in node.attribute:
        tensor = TensorProto()
        if attribute.name == "value":
            tensor.CopyFrom(attribute.t)
            return tensor
        if attribute.name == "value_floats":
            floats = np.array(attribute.floats, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(floats))
            return tensor
    return None


def hoisted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with the tensors of its Constant nodes as initialisers.

    Args:
      proto: Of checked form, which is not changed. What was a node is said in the
        metadata of the result; see `written`.
    """
    names, nodes = [], []
    tensors = []
    for node in proto.graph.node:
        value = _held(node)
        if node.op_type == "Constant" and value is not None and _wide(value):
            tensor = TensorProto()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
            tensors.append(tensor)
            names.append(node.output[0])
        else:
            nodes.append(node)
    if not names:
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    del found.graph.node[:]
    found.graph.node.extend(nodes)
    found.graph.initializer.extend(tensors)
    remember(found, frozenset(names))
    return found


def _wide(tensor: TensorProto) -> bool:
    return tensor.data_type in FLOATS and bool(tensor.dims) and max(tensor.dims) > 1


def shortened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with names of values that a bundle's manifest can hold.

    TensorFlow Lite names a tensor after all that was computed into it. The beginning
    stays, and a few digits of the whole.

    Args:
      proto: Of checked form, which is not changed.
    """
    # Names of inputs and outputs stay: an export of the trained model needs them.
    names = [item.name for item in proto.graph.initializer]
    names += [name for node in proto.graph.node for name in node.output]
    kept = {item.name for item in proto.graph.output}
    long = {name for name in names if not _holdable(name)} - kept
    fresh = {name: _shorter(name) for name in long}
    if not fresh:
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    for tensor in found.graph.initializer:
        tensor.name = fresh.get(tensor.name, tensor.name)
    for node in found.graph.node:
        for values in (node.input, node.output):
            renamed = [fresh.get(name, name) for name in values]
            del values[:]
            values.extend(renamed)
    return found


def _holdable(name: str) -> bool:
    return len(name) <= NAME_CHARS_MAX and name.isprintable()


def _shorter(name: str) -> str:
    kept = "".join([c if c.isprintable() else "_" for c in name[:_KEPT_CHARS]])
    # By digest and not by number, so that a name does not depend on the others.
    return f"{kept}~{H(name.encode()).hex()[:_DIGEST_CHARS]}"


def written(proto: onnx.ModelProto) -> frozenset[str]:
    """Names of initialisers that the file writes as Constant nodes."""
    texts = [item.value for item in proto.metadata_props if item.key == _WRITTEN]
    return frozenset(json.loads(texts[-1])) if texts else frozenset()


def remember(proto: onnx.ModelProto, names: frozenset[str]) -> None:
    """Says in a model's metadata which of its initialisers were Constant nodes."""
    kept = [item for item in proto.metadata_props if item.key != _WRITTEN]
    kept.append(
        onnx.StringStringEntryProto(key=_WRITTEN, value=json.dumps(sorted(names)))
    )
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)


def parted_by_module(
    proto: onnx.ModelProto, told: ExporterMetadata | None, *, every: bool
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A model whose weights that PyTorch's newer exporter merged stand for themselves.

    A node knows its module, and a module its parameters: where a node reads another
    module's tensor and a parameter of its own is missing, that one is put back. Values
    that are all equal (fresh gains and biases) are no sign of a shared weight; others
    may be one, and so are parted only if the caller says that nothing is shared.

    Args:
      proto: A checked model, which is not changed.
      told: What the file says of its tensors.
      every: Whether weights of any values are parted.

    Returns:
      The model, and the names that were put back.
    """
    if told is None:
        return proto, ()
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    graph = found.graph
    tensors = {item.name: item for item in graph.initializer}
    present = {parent for name in tensors for parent in told.parents(name)}
    missing = [name for name in told.parameters if name not in present]
    added = []
    for name, readers in _shared(graph, tensors).items():
        parents = told.parents(name)
        # Equal by being fresh, two gains are two; equal after training, they may be
        # one.
        fresh = alike(numpy_helper.to_array(tensors[name]))
        if len(parents) != 1 or not (fresh or every):
            continue
        for path, nodes in readers.items():
            own = _own(parents[0], path, missing)
            if own is None:
                continue
            # Each missing parameter is put back once, even if several merged tensors
            # could be it.
            missing.remove(own)
            _add(graph, tensors, tensors[name], own)
            added.append(own)
            for node in nodes:
                inputs = [own if item == name else item for item in node.input]
                del node.input[:]
                node.input.extend(inputs)
    return found, tuple(added)


def _shared(
    graph: onnx.GraphProto, tensors: Mapping[str, TensorProto]
) -> dict[str, dict[str, list[onnx.NodeProto]]]:
    """Float tensors that nodes of several modules read, and these nodes by module."""
    readers: dict[str, dict[str, list[onnx.NodeProto]]] = {}
    for node in graph.node:
        path = module(node)
        for name in {*node.input} if path is not None else ():
            if name in tensors and tensors[name].data_type in FLOATS:
                readers.setdefault(name, {}).setdefault(path or "", []).append(node)
    return {name: found for name, found in readers.items() if len(found) > 1}


def _own(parameter: str, path: str, missing: Sequence[str]) -> str | None:
    """The missing parameter of a module that a tensor of another one stands for."""
    if not path or parameter.startswith(f"{path}."):
        return None
    inside = [name for name in missing if name.startswith(f"{path}.")]
    leaf = parameter.rpartition(".")[2]
    namesakes = [name for name in inside if name.rpartition(".")[2] == leaf]
    # A module may hold several parameters; the one of the same last name stands for its
    # like.
    chosen = namesakes if len(namesakes) == 1 else inside
    return chosen[0] if len(chosen) == 1 else None


def merged(
    proto: onnx.ModelProto, weights: Sequence[str], told: ExporterMetadata | None = None
) -> tuple[str, ...]:
    """Weights that several modules read, though each may have one of its own.

    A weight that a model does share looks the same. What a module reads of one that
    contains it, or of one without parameters that the file lost, is no such weight.

    Args:
      proto: A checked model.
      weights: Names of what is trained.
      told: What the file says of its tensors, if it does.

    Returns:
      Those names, in order.
    """
    tensors = {item.name: item for item in proto.graph.initializer}
    found = set()
    for name, readers in _shared(proto.graph, tensors).items():
        apart = [
            path
            for path in readers
            if not any(_within(path, other) for other in readers if other != path)
        ]
        if told is not None:
            present = {parent for item in tensors for parent in told.parents(item)}
            lost = [item for item in told.parameters if item not in present]
            apart = [
                p for p in readers if any(q.startswith(f"{p}.") for q in lost if p)
            ]
        if len(apart) > (told is None):
            found.add(name)
    return tuple([name for name in weights if name in found])


def _within(path: str, other: str) -> bool:
    """True if one path is the other or leads to it."""
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")


_TURNED = re.compile(r"onnx::\w+_[0-9]+")
"""What PyTorch's older exporter calls a weight that it turned round."""
_NUMBERED = re.compile(r"val_[0-9]+")
"""What PyTorch's exporter calls a tensor that the model has no name for."""


def exporters_own(name: str, array: Array, nodes: Sequence[NetworkNode]) -> bool:
    """True if a tensor is a number of the exporter's and no weight of the model.

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
    return array.size == 1 or (filler and alike(array))
