"""From bytes to a `Graph`: only what is on the lists below may stand in a model.

A field that is not listed is refused, so that nothing can be there that this reader
skips and another one minds. Text that describes (who produced the file) is read and not
kept. Whether the parts make sense together is `engine.graph_check`'s matter.

A tensor's bytes stand in the model, or in the one file beside it whose bytes the caller
gives: by its name, an offset and a length, as ONNX writes external data. No path is
followed.

Source: field numbers of onnx.proto, IR version 13; ONNX, "External Data".
"""

from starling.engine.onnx_graph import (
    OPSET_MAX,
    OPSET_MIN,
    Attribute,
    ConstantTensor,
    ElementType,
    Graph,
    GraphNode,
    GraphPort,
    size,
)
from starling.engine.protobuf_wire import (
    FieldKind,
    Form,
    ProtobufField,
    ProtobufMessage,
    ProtobufReader,
)
from starling.protocol.errors import DecodeError, LimitError
from starling.protocol.model.training_bundle import CONSTANTS

GRAPH_BYTES_MAX = 96 << 20
"""Of a model, what its tensors have in the file beside it included."""
NODES_MAX = 16384
TENSORS_MAX = 16384
PORTS_MAX = 8192
"""Of inputs, and of outputs; a graph that is opened up has one for each parameter."""
RANK_MAX = 16
IR_VERSION_MIN, IR_VERSION_MAX = 8, 13

_MODEL: Form = {
    1: ProtobufField("ir_version", FieldKind.INT64),
    2: ProtobufField("producer_name", FieldKind.TEXT),
    3: ProtobufField("producer_version", FieldKind.TEXT),
    7: ProtobufField("graph", FieldKind.MESSAGE),
    8: ProtobufField("opset_import", FieldKind.MESSAGE, repeated=True),
}
_OPSET: Form = {
    1: ProtobufField("domain", FieldKind.TEXT),
    2: ProtobufField("version", FieldKind.INT64),
}
_GRAPH: Form = {
    1: ProtobufField("node", FieldKind.MESSAGE, repeated=True),
    2: ProtobufField("name", FieldKind.TEXT),
    5: ProtobufField("initializer", FieldKind.MESSAGE, repeated=True),
    11: ProtobufField("input", FieldKind.MESSAGE, repeated=True),
    12: ProtobufField("output", FieldKind.MESSAGE, repeated=True),
}
_NODE: Form = {
    1: ProtobufField("input", FieldKind.TEXT, repeated=True),
    2: ProtobufField("output", FieldKind.TEXT, repeated=True),
    3: ProtobufField("name", FieldKind.TEXT),
    4: ProtobufField("op_type", FieldKind.TEXT),
    5: ProtobufField("attribute", FieldKind.MESSAGE, repeated=True),
    7: ProtobufField("domain", FieldKind.TEXT),
}
_ATTRIBUTE: Form = {
    1: ProtobufField("name", FieldKind.TEXT),
    2: ProtobufField("f", FieldKind.FLOAT),
    3: ProtobufField("i", FieldKind.INT64),
    4: ProtobufField("s", FieldKind.TEXT),
    8: ProtobufField("ints", FieldKind.INT64, repeated=True),
    20: ProtobufField("type", FieldKind.INT32),
}
ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_STRING, ATTRIBUTE_INTS = 1, 2, 3, 7
_ATTRIBUTE_FIELDS = {
    ATTRIBUTE_FLOAT: "f",
    ATTRIBUTE_INT: "i",
    ATTRIBUTE_STRING: "s",
    ATTRIBUTE_INTS: "ints",
}
"""Which field an attribute of a type holds, and it alone."""
_TENSOR: Form = {
    1: ProtobufField("dims", FieldKind.INT64, repeated=True),
    2: ProtobufField("data_type", FieldKind.INT32),
    8: ProtobufField("name", FieldKind.TEXT),
    9: ProtobufField("raw_data", FieldKind.BYTES),
    13: ProtobufField("external_data", FieldKind.MESSAGE, repeated=True),
    14: ProtobufField("data_location", FieldKind.INT32),
}
_ENTRY: Form = {
    1: ProtobufField("key", FieldKind.TEXT),
    2: ProtobufField("value", FieldKind.TEXT),
}
EXTERNAL = 1
"""`TensorProto.DataLocation` of a tensor whose bytes stand in a file."""
EXTERNAL_KEYS = ("location", "offset", "length")
# More than any offset has; a text of many digits takes long to read.
_DIGITS_MAX = 10
_VALUE: Form = {
    1: ProtobufField("name", FieldKind.TEXT),
    2: ProtobufField("type", FieldKind.MESSAGE),
}
_TYPE: Form = {1: ProtobufField("tensor_type", FieldKind.MESSAGE)}
_TENSOR_TYPE: Form = {
    1: ProtobufField("elem_type", FieldKind.INT32),
    2: ProtobufField("shape", FieldKind.MESSAGE),
}
_SHAPE: Form = {1: ProtobufField("dim", FieldKind.MESSAGE, repeated=True)}
_DIMENSION: Form = {
    1: ProtobufField("dim_value", FieldKind.INT64),
    2: ProtobufField("dim_param", FieldKind.TEXT),
}
_SIZE_MAX = (1 << 31) - 1
KnownNodes = dict[bytes, tuple[GraphNode, int]]
"""Bytes of a node to what they say and how many fields that takes."""


def read_graph(
    model: bytes, constants: bytes = b"", nodes: KnownNodes | None = None
) -> Graph:
    """Reads a serialised `ModelProto`.

    Args:
      model: To read.
      constants: The file `CONSTANTS` beside it.
      nodes: What was read of other graphs of the same bundle, which share most of
        their nodes; takes those of this one, too.

    Raises:
      LimitError: If it is longer than `GRAPH_BYTES_MAX` or has too many parts.
      DecodeError: If it is malformed or holds anything that is not on the lists.
    """
    if len(model) > GRAPH_BYTES_MAX:
        raise LimitError(f"graph: {len(model)} bytes, {GRAPH_BYTES_MAX} allowed")
    reader = ProtobufReader()
    found = reader.message(memoryview(model), _MODEL, "model")
    version = found.one("ir_version", int)
    if not IR_VERSION_MIN <= version <= IR_VERSION_MAX:
        raise DecodeError(f"graph: IR version {version} is refused")
    opset = _opset(reader, found)
    graph = reader.message(found.one("graph", memoryview), _GRAPH, "graph")
    beside = memoryview(constants)
    nodes = {} if nodes is None else nodes
    tensors = tuple(
        [
            _tensor(reader, each, beside)
            for each in _parts(graph, "initializer", TENSORS_MAX)
        ]
    )
    # Tensors may share a place in the file beside the model, so that its length bounds
    # nothing.
    held = sum([len(tensor.raw) for tensor in tensors])
    if held > GRAPH_BYTES_MAX:
        raise LimitError(f"graph: {held} bytes of tensors, {GRAPH_BYTES_MAX} allowed")
    # Only now is anything read: many tensors may be one place of a long file.
    for tensor in tensors:
        if tensor.type is ElementType.BOOL and not set(bytes(tensor.raw)) <= {0, 1}:
            name = tensor.name[:80]
            raise DecodeError(f"graph: tensor {name!r} has a truth value beyond 1")
    return Graph(
        graph.one("name", str) if graph.has("name") else "",
        version,
        opset,
        tuple(
            [_known(reader, each, nodes) for each in _parts(graph, "node", NODES_MAX)]
        ),
        tensors,
        tuple([_port(reader, each) for each in _parts(graph, "input", PORTS_MAX)]),
        tuple([_port(reader, each) for each in _parts(graph, "output", PORTS_MAX)]),
    )


def _parts(graph: ProtobufMessage, name: str, most: int) -> list[memoryview]:
    found = graph.all(name, memoryview)
    if len(found) > most:
        raise LimitError(f"graph: {len(found)} times {name}, {most} allowed")
    return found


def _opset(reader: ProtobufReader, model: ProtobufMessage) -> int:
    entries = model.all("opset_import", memoryview)
    # A second entry would bring operators of another domain.
    if len(entries) != 1:
        raise DecodeError("graph: expected one operator set")
    entry = reader.message(entries[0], _OPSET, "operator set")
    _check_domain(entry)
    version = entry.one("version", int)
    if not OPSET_MIN <= version <= OPSET_MAX:
        raise DecodeError(f"graph: operator set {version} is refused")
    return version


def _check_domain(found: ProtobufMessage) -> None:
    domain = found.one("domain", str) if found.has("domain") else ""
    if domain:
        raise DecodeError(f"graph: domain {domain[:80]!r} is refused")


def _known(reader: ProtobufReader, content: memoryview, nodes: KnownNodes) -> GraphNode:
    """A node that may have been read before, with the same bytes."""
    key = bytes(content)
    found = nodes.get(key)
    if found is None:
        before = reader.fields
        node = _node(reader, content)
        nodes[key] = node, reader.fields - before
        return node
    # Its fields count each time, so that the limit holds whatever is remembered.
    reader.count(found[1])
    return found[0]


def _node(reader: ProtobufReader, content: memoryview) -> GraphNode:
    found = reader.message(content, _NODE, "node")
    _check_domain(found)
    operator = found.one("op_type", str)
    attributes: dict[str, Attribute] = {}
    for each in found.all("attribute", memoryview):
        name, value = _attribute(reader, each)
        if name in attributes:
            raise DecodeError(f"graph: {operator}.{name} stands there twice")
        attributes[name] = value
    return GraphNode(
        operator,
        found.one("name", str) if found.has("name") else "",
        tuple(found.all("input", str)),
        tuple(found.all("output", str)),
        attributes,
    )


def _attribute(reader: ProtobufReader, content: memoryview) -> tuple[str, Attribute]:
    found = reader.message(content, _ATTRIBUTE, "attribute")
    name, kind = found.one("name", str), found.one("type", int)
    held = set(found.values) - {"name", "type"}
    wanted = _ATTRIBUTE_FIELDS.get(kind)
    # An empty list of INTS has no field at all.
    if wanted is None or not held <= {wanted}:
        raise DecodeError(f"graph: attribute {name[:80]!r} of type {kind} is refused")
    if kind == ATTRIBUTE_FLOAT:
        return name, found.one("f", float)
    if kind == ATTRIBUTE_STRING:
        return name, found.one("s", str)
    if kind == ATTRIBUTE_INT:
        return name, found.one("i", int)
    return name, tuple(found.all("ints", int))


def _tensor(
    reader: ProtobufReader, content: memoryview, beside: memoryview
) -> ConstantTensor:
    found = reader.message(content, _TENSOR, "tensor")
    name, kind = found.one("name", str), _type(found.one("data_type", int))
    shape = tuple(found.all("dims", int))
    if len(shape) > RANK_MAX or not all(0 <= each <= _SIZE_MAX for each in shape):
        raise DecodeError(f"graph: tensor {name[:80]!r} has an impossible shape")
    if found.has("data_location") or found.has("external_data"):
        raw = _external(reader, found, beside)
    elif found.has("raw_data"):
        raw = found.one("raw_data", memoryview)
    else:
        raw = memoryview(b"")
    if len(raw) != size(shape) * kind.width:
        raise DecodeError(f"graph: tensor {name[:80]!r} has {len(raw)} bytes")
    return ConstantTensor(name, kind, shape, raw)


def _external(
    reader: ProtobufReader, tensor: ProtobufMessage, beside: memoryview
) -> memoryview:
    """The bytes of a tensor that stand in the file beside the model."""
    entries = [
        reader.message(each, _ENTRY, "entry")
        for each in tensor.all("external_data", memoryview)
    ]
    keys = tuple([entry.one("key", str) for entry in entries])
    alone = not tensor.has("raw_data") and tensor.has("data_location")
    if not alone or tensor.one("data_location", int) != EXTERNAL:
        raise DecodeError("graph: a tensor says twice, or not at all, where it is")
    # These keys in this order: each tensor has one form, and a name leads to no other
    # file.
    if keys != EXTERNAL_KEYS or entries[0].one("value", str) != CONSTANTS:
        raise DecodeError(f"graph: a tensor in another file than {CONSTANTS}")
    start, length = [_decimal(entry.one("value", str)) for entry in entries[1:]]
    if start + length > len(beside):
        raise DecodeError(f"graph: a tensor beyond the end of {CONSTANTS}")
    return beside[start : start + length]


def _decimal(text: str) -> int:
    plain = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
    if not plain or text != str(int(text)):
        raise DecodeError(f"graph: {text[:80]!r} is no offset or length")
    return int(text)


def _type(number: int) -> ElementType:
    try:
        return ElementType(number)
    except ValueError as error:
        raise DecodeError(f"graph: values of type {number} are refused") from error


def _port(reader: ProtobufReader, content: memoryview) -> GraphPort:
    found = reader.message(content, _VALUE, "port")
    outer = reader.message(found.one("type", memoryview), _TYPE, "type")
    inner = outer.one("tensor_type", memoryview)
    tensor = reader.message(inner, _TENSOR_TYPE, "tensor type")
    shape: tuple[int | str, ...] | None = None
    if tensor.has("shape"):
        form = reader.message(tensor.one("shape", memoryview), _SHAPE, "shape")
        entries = form.all("dim", memoryview)
        if len(entries) > RANK_MAX:
            raise LimitError(f"graph: {len(entries)} axes, {RANK_MAX} allowed")
        shape = tuple([_dimension(reader, entry) for entry in entries])
    kind = _type(tensor.one("elem_type", int))
    return GraphPort(found.one("name", str), kind, shape)


def _dimension(reader: ProtobufReader, content: memoryview) -> int | str:
    found = reader.message(content, _DIMENSION, "axis")
    if len(found.values) != 1:
        raise DecodeError("graph: an axis has a size or the name of one")
    if found.has("dim_param"):
        name = found.one("dim_param", str)
        if not name:
            raise DecodeError("graph: an axis without a name")
        return name
    length = found.one("dim_value", int)
    if not 0 <= length <= _SIZE_MAX:
        raise DecodeError(f"graph: an axis of size {length}")
    return length
