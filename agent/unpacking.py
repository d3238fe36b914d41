"""Opens a gradient graph up: an input for each parameter, an output for each gradient.

A bundle's graphs take all parameters as one vector and give their gradient as one, so
that a run splits the one and joins the other: two or three copies of everything, which
on small batches is half of the work. The graph written here has neither. Its inputs are
parts of the vector in the shapes that the nodes ask for, and its outputs the gradient's
parts, so that an engine binds them to places in two vectors and nothing is copied.

Letters: `d` parameters.

Source: the field numbers of onnx.proto, IR version 13.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from protocol.protobuf import bytes_field, fields, message, number_field, string

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4
_TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 2, 8, 9
_VALUE_NAME, _VALUE_TYPE = 1, 2
_FLOAT, _INT64 = 1, 7
_THETA, _GRADIENT = "theta", "gradient"


@dataclass(frozen=True)
class View:
    """An input that is a part of theta.

    Attributes:
      name: Of the input.
      start: Where the part begins, in [0, d).
      shape: In which the graph reads it; parts may overlap.
    """

    name: str
    start: int
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        """Where the part ends."""
        return self.start + math.prod(self.shape)


@dataclass(frozen=True)
class Unpacked:
    """A graph that was opened up.

    Attributes:
      model: Serialised; its other inputs and outputs are those of the bundle's graph.
      parameters: The inputs that stand for theta.
      gradients: Names of the outputs that make up the gradient, in its order.
    """

    model: bytes
    parameters: tuple[View, ...]
    gradients: tuple[str, ...]


@dataclass(frozen=True)
class _Node:
    raw: memoryview
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class _Graph:
    nodes: list[_Node] = field(default_factory=list)
    tensors: dict[str, memoryview] = field(default_factory=dict)
    inputs: dict[str, memoryview] = field(default_factory=dict)
    outputs: dict[str, memoryview] = field(default_factory=dict)
    rest: list[bytes] = field(default_factory=list)


def unpack(model: bytes, dimension: int) -> Unpacked | None:
    """Opens up a graph of a bundle, if it is one that the compiler might have written.

    Args:
      model: A serialised graph that `protocol.graph.check_graph` accepted, with an
        input `theta (d,)` and an output `gradient (d,)`.
      dimension: d.

    Returns:
      None if its gradient is anything but a row of parts that nodes compute.
    """
    graph, around = _read(model)
    views, nodes = _views(graph, dimension)
    parts = _parts(nodes)
    made = {name for node in nodes for name in node.outputs}
    if not parts or len(set(parts)) < len(parts) or not made.issuperset(parts):
        return None
    if not made.issuperset(graph.outputs):
        return None
    nodes = _live(nodes, {*parts, *graph.outputs} - {_GRADIENT})
    used = {name for node in nodes for name in node.inputs}
    parameters = tuple([view for view in views.values() if view.name in used])
    written = _written(graph, nodes, parameters, parts)
    whole = b"".join([*around, bytes_field(_MODEL_GRAPH, written)])
    return Unpacked(whole, parameters, parts)


def _views(graph: _Graph, dimension: int) -> tuple[Mapping[str, View], list[_Node]]:
    """All that is theta, cut and reshaped, and the nodes that do anything else."""
    views = {_THETA: View(_THETA, 0, (dimension,))}
    nodes = []
    for node in graph.nodes:
        view = views.get(node.inputs[0]) if node.inputs else None
        sizes = _integers(graph, node)
        if view is None or sizes is None:
            nodes.append(node)
        elif node.kind == "Split" and len(sizes) == len(node.outputs):
            starts = [view.start + sum(sizes[:k]) for k in range(len(sizes))]
            for name, start, size in zip(node.outputs, starts, sizes, strict=True):
                views[name] = View(name, start, (size,))
        elif node.kind == "Reshape" and math.prod(sizes) == math.prod(view.shape):
            name = node.outputs[0]
            views[name] = View(name, view.start, sizes)
        else:
            nodes.append(node)
    return views, nodes


def _parts(nodes: list[_Node]) -> tuple[str, ...]:
    """Names of what is joined into the gradient; none if no node makes it."""
    makers = {name: node for node in nodes for name in node.outputs}
    readers = Counter([name for node in nodes for name in node.inputs])
    last = makers.get(_GRADIENT)
    while last is not None and last.kind == "Identity":
        last = makers.get(last.inputs[0])
    if last is None:
        return ()
    parts = []
    for name in last.inputs if last.kind == "Concat" else last.outputs[:1]:
        maker = makers.get(name)
        if maker is not None and maker.kind == "Reshape" and readers[name] == 1:
            # A product of two matrices has a static shape; others may not.
            source = makers.get(maker.inputs[0])
            if source is not None and source.kind == "Gemm":
                name = source.outputs[0]
        parts.append(name)
    return tuple(parts)


def _live(nodes: list[_Node], wanted: set[str]) -> list[_Node]:
    found = []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            found.append(node)
            wanted.update(node.inputs)
    return found[::-1]


def _read(model: bytes) -> tuple[_Graph, list[bytes]]:
    """The graph, and the fields of the model around it."""
    graph, around = _Graph(), []
    for number, wire, value in fields(memoryview(model), "model"):
        if number != _MODEL_GRAPH:
            around.append(_copied(number, value))
            continue
        for inner, kind, entry in fields(message(wire, value, "graph"), "graph"):
            content = message(kind, entry, "entry")
            if inner == _GRAPH_NODE:
                graph.nodes.append(_node(content))
            elif inner == _GRAPH_INITIALIZER:
                graph.tensors[_text(content, _TENSOR_NAME)] = content
            elif inner == _GRAPH_INPUT:
                graph.inputs[_text(content, _VALUE_NAME)] = content
            elif inner == _GRAPH_OUTPUT:
                graph.outputs[_text(content, _VALUE_NAME)] = content
            else:
                graph.rest.append(bytes_field(inner, content))
    return graph, around


def _written(
    graph: _Graph,
    nodes: Iterable[_Node],
    parameters: Iterable[View],
    parts: Iterable[str],
) -> bytes:
    used = {name for node in nodes for name in node.inputs}
    entries: list[tuple[int, bytes | memoryview]] = [
        *[(_GRAPH_NODE, node.raw) for node in nodes],
        *[(_GRAPH_INITIALIZER, raw) for k, raw in graph.tensors.items() if k in used],
        *[(_GRAPH_INPUT, _value(view.name, view.shape)) for view in parameters],
        *[(_GRAPH_INPUT, raw) for k, raw in graph.inputs.items() if k != _THETA],
        *[(_GRAPH_OUTPUT, _value(name, None)) for name in parts],
        *[(_GRAPH_OUTPUT, raw) for k, raw in graph.outputs.items() if k != _GRADIENT],
    ]
    return b"".join([*[bytes_field(*entry) for entry in entries], *graph.rest])


def _value(name: str, shape: tuple[int, ...] | None) -> bytes:
    """A `ValueInfoProto` of float32; without a shape the engine infers it."""
    tensor = number_field(1, _FLOAT)
    if shape is not None:
        sizes = [bytes_field(1, number_field(1, size)) for size in shape]
        tensor += bytes_field(2, b"".join(sizes))
    entry = bytes_field(_VALUE_TYPE, bytes_field(1, tensor))
    return bytes_field(_VALUE_NAME, name.encode()) + entry


def _node(content: memoryview) -> _Node:
    kind, inputs, outputs = "", [], []
    for number, wire, value in fields(content, "node"):
        if number == _NODE_INPUT:
            inputs.append(string(wire, value))
        elif number == _NODE_OUTPUT:
            outputs.append(string(wire, value))
        elif number == _NODE_OPERATOR:
            kind = string(wire, value)
    return _Node(content, kind, tuple(inputs), tuple(outputs))


def _integers(graph: _Graph, node: _Node) -> tuple[int, ...] | None:
    """The second input of a node if it is a constant of positive integers."""
    tensor = graph.tensors.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if tensor is None:
        return None
    raw: bytes | None = None
    kind = 0
    for number, wire, value in fields(tensor, "tensor"):
        if number == _TENSOR_TYPE and isinstance(value, int):
            kind = value
        elif number == _TENSOR_RAW:
            raw = bytes(message(wire, value, "tensor"))
    if raw is None or kind != _INT64:
        return None
    found = memoryview(raw).cast("q").tolist() if len(raw) % 8 == 0 else [0]
    return tuple(found) if min(found, default=0) > 0 else None


def _text(content: memoryview, wanted: int) -> str:
    for number, wire, value in fields(content, "entry"):
        if number == wanted:
            return string(wire, value)
    return ""


def _copied(number: int, value: int | memoryview) -> bytes:
    if isinstance(value, int):
        return number_field(number, value)
    return bytes_field(number, value)
