"""Functions become the nodes that they are made of.

A model may define functions of its own, which are only a way to write nodes. ONNX also
defines many of its operators by others; one that has no rule here but such a
definition (an attention, a root mean square normalisation) is written out.

Source: onnx.inliner; the function bodies in ONNX's schemas.
"""

from collections.abc import Collection, Mapping

import onnx
from onnx import defs, helper
from onnx.inliner import inline_local_functions, inline_selected_functions

from starling.compiler.errors import CompileError
from starling.compiler.rewrite.frontends.node_writer import typed
from starling.protocol.errors import DecodeError, LimitError

_DEFAULT_DOMAINS = ("", "ai.onnx")
_DEPTH_MAX = 64
"""Functions within functions."""


def inlined(proto: onnx.ModelProto, nodes_max: int) -> onnx.ModelProto:
    """A model without functions of its own.

    Args:
      proto: Parsed, of any form, which is not changed.
      nodes_max: How many nodes it may have afterwards.

    Raises:
      DecodeError: If functions call each other in a circle, or are malformed.
      LimitError: If they stand for too many nodes.
    """
    if not proto.functions:
        return proto
    bodies = {(f.domain, f.name, f.overload): list(f.node) for f in proto.functions}
    if len(bodies) < len(proto.functions):
        raise DecodeError("model: two functions of one name")
    sizes: dict[tuple[str, str, str], int] = {}
    # Counted before anything is written: functions that call others twice grow as
    # 2^depth.
    total = _size(list(proto.graph.node), bodies, sizes, 0)
    if total > nodes_max:
        raise LimitError(f"model: functions of {total} nodes, {nodes_max} allowed")
    try:
        made: onnx.ModelProto = inline_local_functions(proto)
    # The inliner's own complaints, and those of its bindings about text.
    except (RuntimeError, TypeError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise DecodeError(
            f"model: its functions cannot be written out: {line}"
        ) from error
    if made.functions:
        raise DecodeError("model: a function that cannot be written out")
    return made


def _size(
    nodes: list[onnx.NodeProto],
    bodies: Mapping[tuple[str, str, str], list[onnx.NodeProto]],
    sizes: dict[tuple[str, str, str], int],
    depth: int,
) -> int:
    """Number of nodes after functions are inlined."""
    if depth > _DEPTH_MAX:
        raise DecodeError("model: functions that call each other in a circle")
    total = 0
    for node in nodes:
        key = (node.domain, node.op_type, node.overload)
        # Each body is counted once, so that the count itself stays linear.
        if key in bodies and key not in sizes:
            sizes[key] = _size(bodies[key], bodies, sizes, depth + 1)
        total += sizes.get(key, 1)
    return total


def written_out(proto: onnx.ModelProto, known: Collection[str]) -> onnx.ModelProto:
    """A model whose operators without a rule are written as ONNX defines them.

    Args:
      proto: A checked model, which is not changed.
      known: Operators that need not be written out.

    Raises:
      CompileError: If a definition cannot be used.
    """
    version = next(
        (o.version for o in proto.opset_import if o.domain in _DEFAULT_DOMAINS), 0
    )
    kinds = {
        node.op_type
        for node in proto.graph.node
        if node.domain in _DEFAULT_DOMAINS and node.op_type not in known
    }
    defined = sorted([kind for kind in kinds if _is_defined(kind, version)])
    if not defined:
        return proto
    found = _typed(proto)
    try:
        made: onnx.ModelProto = inline_selected_functions(
            found, [("", kind) for kind in defined], inline_schema_functions=True
        )
    # Definitions that depend on types that are not known.
    except (RuntimeError, TypeError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise CompileError(
            f"{', '.join(defined)}: no gradient rule, and its definition by other "
            f"operators cannot be used: {line}"
        ) from error
    # The types were for the definitions alone; shapes are found anew later.
    del made.graph.value_info[:]
    return made


def _is_defined(kind: str, version: int) -> bool:
    try:
        schema = defs.get_schema(kind, version)
    except defs.SchemaError:
        return False
    given = [
        getattr(schema, name)
        for name in ("has_function", "has_context_dependent_function")
    ]
    return any(given)


def _typed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types of all values, which definitions may depend on."""
    found = typed(proto)
    told = {item.name for item in (*found.graph.input, *found.graph.value_info)}
    found.graph.value_info.extend(
        [
            helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
            for item in found.graph.initializer
            if item.name not in told
        ]
    )
    return found
