"""From a `Graph` to the bytes that ONNX Runtime is given.

Each graph has one form: fields rise, and nothing is written that is not in `Graph`.
What the compiler writes comes out as it went in, but for the name of its producer.
"""

from starling.engine.onnx_graph import (
    Attribute,
    ConstantTensor,
    Graph,
    GraphNode,
    GraphPort,
)
from starling.engine.onnx_reader import (
    ATTRIBUTE_FLOAT,
    ATTRIBUTE_INT,
    ATTRIBUTE_INTS,
    ATTRIBUTE_STRING,
)
from starling.engine.protobuf_wire import (
    bytes_field,
    float_field,
    number_field,
    text_field,
)


def write_graph(graph: Graph) -> bytes:
    """The serialised `ModelProto`; `read_graph` reads the same graph."""
    parts = [
        *[bytes_field(1, _node(node)) for node in graph.nodes],
        text_field(2, graph.name),
        *[bytes_field(5, _tensor(tensor)) for tensor in graph.tensors],
        *[bytes_field(11, _port(port)) for port in graph.inputs],
        *[bytes_field(12, _port(port)) for port in graph.outputs],
    ]
    opset = text_field(1, "") + number_field(2, graph.opset)
    return b"".join(
        (
            number_field(1, graph.ir_version),
            bytes_field(7, b"".join(parts)),
            bytes_field(8, opset),
        )
    )


def _node(node: GraphNode) -> bytes:
    return b"".join(
        [
            *[text_field(1, name) for name in node.inputs],
            *[text_field(2, name) for name in node.outputs],
            text_field(3, node.name),
            text_field(4, node.operator),
            *[bytes_field(5, _attribute(*item)) for item in node.attributes.items()],
        ]
    )


def _attribute(name: str, value: Attribute) -> bytes:
    match value:
        case int():
            held, kind = number_field(3, value), ATTRIBUTE_INT
        case float():
            held, kind = float_field(2, value), ATTRIBUTE_FLOAT
        case str():
            held, kind = text_field(4, value), ATTRIBUTE_STRING
        case _:
            held = b"".join([number_field(8, entry) for entry in value])
            kind = ATTRIBUTE_INTS
    return text_field(1, name) + held + number_field(20, kind)


def _tensor(tensor: ConstantTensor) -> bytes:
    return b"".join(
        [
            *[number_field(1, length) for length in tensor.shape],
            number_field(2, tensor.type),
            text_field(8, tensor.name),
            bytes_field(9, tensor.raw),
        ]
    )


def _port(port: GraphPort) -> bytes:
    tensor = number_field(1, port.type)
    if port.shape is not None:
        tensor += bytes_field(2, b"".join([_dimension(each) for each in port.shape]))
    return text_field(1, port.name) + bytes_field(2, bytes_field(1, tensor))


def _dimension(length: int | str) -> bytes:
    held = text_field(2, length) if isinstance(length, str) else number_field(1, length)
    return bytes_field(1, held)
