"""Reads a model file and refuses what cannot be trusted.

A model comes from anywhere, so this is written for malformed files first: size, form,
operator set, tensors in other files, subgraphs and functions are checked before
anything is built from them.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf import message  # type: ignore[import-untyped] # ships no types
from onnx import version_converter
from onnx.checker import ValidationError

from starling.compiler.errors import CompileError
from starling.compiler.parameters.exporter_fixups import (
    hoisted,
    remember,
    shortened,
    written,
)
from starling.compiler.reader.external_tensors import with_external_tensors
from starling.compiler.rewrite.frontends.constant_branches import decided
from starling.compiler.rewrite.frontends.distance_scans import unrolled
from starling.compiler.rewrite.frontends.function_inlining import inlined
from starling.compiler.rewrite.frontends.quantised_models import dequantised
from starling.compiler.rewrite.frontends.sequences import without_sequences
from starling.compiler.rewrite.frontends.unpooling import unpooled
from starling.compiler.rewrite.lowering import lowered
from starling.protocol.errors import ConfigError, DecodeError, LimitError

MODEL_BYTES_MAX = 96 << 20
NODES_MAX = 4096
MODEL_OPSET_MIN = 9
MODEL_OPSET_MAX = 26
_CONVERT_BELOW = 13
_DEFAULT_DOMAINS = ("", "ai.onnx")


def load(model: bytes | Path | onnx.ModelProto) -> onnx.ModelProto:
    """Reads a model and checks its form.

    Args:
      model: Serialised, as a file, or already parsed.

    Returns:
      A model of one graph in an operator set that the rules know.

    Raises:
      ConfigError: If the file cannot be read.
      LimitError: If it is larger than `MODEL_BYTES_MAX` or has too many nodes.
      DecodeError: If it is truncated, malformed, cyclic, or keeps tensors elsewhere
        than in a file beside its own.
      CompileError: If its operator set or domain is not supported.
    """
    proto = _parse(_bytes(model))
    if isinstance(model, Path):
        proto = with_external_tensors(proto, model.parent, MODEL_BYTES_MAX)
    # Functions may hide anything that the checks below refuse, so they are written out
    # first.
    proto = unrolled(inlined(_with_shapes(proto), NODES_MAX))
    _check_form(proto, branches=True)
    # A branch that is taken may hold sequences.
    proto = unpooled(without_sequences(decided(proto)))
    _check_form(proto)
    # Shortened first, since hoisting remembers names.
    proto = hoisted(shortened(proto))
    names = written(proto)
    # Weights of few bits are real numbers before lowering looks at element types.
    proto = lowered(dequantised(proto))
    version = opset(proto)
    try:
        onnx.checker.check_model(proto)
        # Below set 13 a Softmax flattens its input, and Squeeze and Split take
        # attributes: one form is enough for the rules.
        if version < _CONVERT_BELOW:
            proto = version_converter.convert_version(proto, _CONVERT_BELOW)
    # The converter raises bare RuntimeErrors.
    except (ValidationError, RuntimeError, ValueError) as error:
        raise DecodeError(f"model: {_first_line(error)}") from error
    # The converter forgets it.
    remember(proto, names)
    return proto


def opset(proto: onnx.ModelProto) -> int:
    """The version of the default operator set that a model is written in.

    Raises:
      CompileError: If there is none, or one that the rules do not know.
    """
    versions = {
        item.version for item in proto.opset_import if item.domain in _DEFAULT_DOMAINS
    }
    found = sorted(versions)
    if len(found) != 1 or not MODEL_OPSET_MIN <= found[0] <= MODEL_OPSET_MAX:
        raise CompileError(
            f"operator set {found}: versions {MODEL_OPSET_MIN} to {MODEL_OPSET_MAX} "
            "of the default domain compile; export with opset_version=18"
        )
    return int(found[0])


def _parse(data: bytes) -> onnx.ModelProto:
    # Before parsing, which takes several times the bytes in memory.
    if len(data) > MODEL_BYTES_MAX:
        raise LimitError(f"model: {len(data)} bytes, {MODEL_BYTES_MAX} allowed")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except message.DecodeError as error:
        raise DecodeError("model: truncated, or not an ONNX file") from error
    return proto


def _with_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with room for the shapes of its ends, which some leave out."""
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.HasField("tensor_type"):
            # The checker refuses an input without the field; an empty one is refused
            # later with a word on what helps.
            value.type.tensor_type.shape.SetInParent()
    return proto


def _bytes(model: bytes | Path | onnx.ModelProto) -> bytes:
    if isinstance(model, bytes):
        return model
    if isinstance(model, onnx.ModelProto):
        try:
            data: bytes = model.SerializeToString()
        except (message.EncodeError, ValueError) as error:
            raise LimitError("model: too large to serialise") from error
        return data
    try:
        if model.stat().st_size > MODEL_BYTES_MAX:
            raise LimitError(f"model: {MODEL_BYTES_MAX} bytes allowed")
        return model.read_bytes()
    except OSError as error:
        detail = error.strerror or "cannot be read"
        raise ConfigError(detail, file=str(model)) from error


def _check_form(proto: onnx.ModelProto, *, branches: bool = False) -> None:
    """Refuses what is not taken, but for branches that may be decided yet."""
    graph = proto.graph
    if not graph.node:
        raise DecodeError("model: no nodes; truncated, or not an ONNX file")
    if len(graph.node) > NODES_MAX:
        raise LimitError(
            f"model: {len(graph.node)} nodes, {NODES_MAX} allowed; take a model of "
            "fewer layers, or one whose exporter keeps loops and layers whole"
        )
    if proto.training_info or graph.sparse_initializer:
        raise DecodeError("model: training information or sparse tensors")
    _check_names(graph)
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            undecided = branches and node.op_type == "If"
            if (attribute.HasField("g") or attribute.graphs) and not undecided:
                raise CompileError(
                    f"{node.name or node.output[0]} ({node.op_type}): a node with "
                    "subgraphs (a loop, or a branch that examples decide) cannot be "
                    "trained; write the steps of a loop out (an EmbeddingBag as an "
                    "Embedding and a mean), export from PyTorch with dynamo=True, "
                    "recurrent layers of Keras with unroll=True",
                    (node.name,),
                )
            tensors += [attribute.t] if attribute.HasField("t") else []
    for tensor in tensors:
        if tensor.external_data or tensor.data_location != onnx.TensorProto.DEFAULT:
            raise DecodeError(
                f"model: {tensor.name!r} is kept in another file; name the model's own "
                "file beside it, or save the model as one"
            )


def _check_names(graph: onnx.GraphProto) -> None:
    for name in _names(graph):
        # The parser hands out what is not UTF-8 as bytes.
        if not isinstance(name, str):
            raise DecodeError(f"model: the name {name!r} is not UTF-8")


def _names(graph: onnx.GraphProto) -> Iterator[object]:
    yield graph.name
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from [attribute.name for attribute in node.attribute]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
