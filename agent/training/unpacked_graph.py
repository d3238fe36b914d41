"""Opens a gradient graph up: an input for each parameter, an output for each gradient.

A bundle's graphs take all parameters as one vector and give their gradient as one, so
that a run splits the one and joins the other: two or three copies of everything, which
on small batches is half of the work. The graph made here has neither. Its inputs are
parts of the vector in the shapes that the nodes ask for, and its outputs the gradient's
parts, so that an engine binds them to places in two vectors and nothing is copied.

Letters: `d` parameters.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

from starling.engine.onnx_graph import (
    ConstantTensor,
    ElementType,
    Graph,
    GraphNode,
    GraphPort,
    size,
)
from starling.engine.operator_allowlist import MANY

_THETA, _GRADIENT = "theta", "gradient"


@dataclass(frozen=True)
class ParameterView:
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
        """End of the part."""
        return self.start + math.prod(self.shape)


@dataclass(frozen=True)
class UnpackedGraph:
    """A graph that was opened up.

    Attributes:
      graph: Its other inputs and outputs are those of the bundle's graph.
      parameters: The inputs that stand for theta.
      gradients: Names of the outputs that make up the gradient, in its order.
    """

    graph: Graph
    parameters: tuple[ParameterView, ...]
    gradients: tuple[str, ...]


def unpack(graph: Graph, dimension: int) -> UnpackedGraph | None:
    """Opens up a graph of a bundle, if it is one that the compiler might have written.

    Args:
      graph: A checked graph with an input `theta (d,)` and an output `gradient (d,)`.
      dimension: d.

    Returns:
      None if its gradient is anything but a row of parts that nodes compute.
    """
    tensors = {tensor.name: tensor for tensor in graph.tensors}
    views, nodes = _views(graph.nodes, tensors, dimension)
    parts = _parts(nodes)
    made = {name for node in nodes for name in node.outputs}
    if not parts or len(set(parts)) < len(parts) or not made.issuperset(parts):
        return None
    others = [port for port in graph.outputs if port.name != _GRADIENT]
    if not made.issuperset([port.name for port in others]):
        return None
    nodes = _ordered(_live(nodes, {*parts, *[port.name for port in others]}))
    used = {name for node in nodes for name in node.inputs}
    parameters = tuple([view for view in views.values() if view.name in used])
    opened = replace(
        graph,
        nodes=tuple(nodes),
        tensors=tuple([tensor for tensor in graph.tensors if tensor.name in used]),
        inputs=(
            *[
                GraphPort(view.name, ElementType.FLOAT32, view.shape)
                for view in parameters
            ],
            *[port for port in graph.inputs if port.name != _THETA],
        ),
        outputs=(
            # Without a shape; the engine infers it.
            *[GraphPort(name, ElementType.FLOAT32, None) for name in parts],
            *others,
        ),
    )
    return UnpackedGraph(opened, parameters, parts)


def _views(
    nodes: Iterable[GraphNode], tensors: Mapping[str, ConstantTensor], dimension: int
) -> tuple[Mapping[str, ParameterView], list[GraphNode]]:
    """All that is theta, cut and reshaped, and the nodes that do anything else."""
    views = {_THETA: ParameterView(_THETA, 0, (dimension,))}
    rest = []
    for node in nodes:
        view = views.get(node.inputs[0])
        sizes = None if view is None else _sizes(tensors, node)
        if view is None or sizes is None:
            rest.append(node)
        elif node.operator == "Split" and _cuts(node, sizes, view):
            starts = accumulate(sizes[:-1], initial=view.start)
            for name, start, length in zip(node.outputs, starts, sizes, strict=True):
                views[name] = ParameterView(name, start, (length,))
        elif node.operator == "Reshape" and math.prod(sizes) == math.prod(view.shape):
            name = node.outputs[0]
            views[name] = ParameterView(name, view.start, sizes)
        else:
            rest.append(node)
    return views, rest


def _cuts(node: GraphNode, sizes: tuple[int, ...], view: ParameterView) -> bool:
    """True if a `Split` cuts a row into as many parts as it names."""
    named = len(sizes) == len(node.outputs) and all(node.outputs)
    return named and view.shape == (sum(sizes),)


def _parts(nodes: list[GraphNode]) -> tuple[str, ...]:
    """Names of what is joined into the gradient; none if no node makes it."""
    makers = {name: node for node in nodes for name in node.outputs}
    readers = Counter([name for node in nodes for name in node.inputs])
    last = makers.get(_GRADIENT)
    while last is not None and last.operator == "Identity":
        last = makers.get(last.inputs[0])
    if last is None:
        return ()
    parts = []
    for name in last.inputs if last.operator == "Concat" else last.outputs[:1]:
        maker = makers.get(name)
        if maker is not None and maker.operator == "Reshape" and readers[name] == 1:
            # A product of two matrices has a static shape; others may not.
            source = makers.get(maker.inputs[0])
            if source is not None and source.operator == "Gemm":
                name = source.outputs[0]
        parts.append(name)
    return tuple(parts)


def _ordered(nodes: list[GraphNode]) -> list[GraphNode]:
    """The same nodes, those that nothing reads last, the earliest of them at the end.

    ONNX Runtime goes back from the last such node first, and to another only when that
    is computed: a part of the gradient that can be had early is, and what it was made
    of is let go of.
    """
    read = {name for node in nodes for name in node.inputs}
    ends = [node for node in nodes if not read.intersection(node.outputs)]
    ended = {id(node) for node in ends}
    return [*[node for node in nodes if id(node) not in ended], *reversed(ends)]


def _live(nodes: list[GraphNode], wanted: set[str]) -> list[GraphNode]:
    found = []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            found.append(node)
            wanted.update(node.inputs)
    return found[::-1]


def _sizes(
    tensors: Mapping[str, ConstantTensor], node: GraphNode
) -> tuple[int, ...] | None:
    """The second input of a node if it is a constant of positive integers."""
    tensor = tensors.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if (
        tensor is None
        or tensor.type is not ElementType.INT64
        or size(tensor.shape) > MANY
    ):
        return None
    sizes = tensor.integers()
    return sizes if min(sizes, default=0) > 0 else None
