"""From a bundle and a version's parameters to an ordinary ONNX model.

The model takes and returns what the source model did, by its names. Its trained weights
are initializers by their names, in the order of theta, so that who reads them one
behind the other has the parameters that the chain proves. Whatever is known of the
model stands in its metadata.

Source: ONNX IR specification, `ModelProto.metadata_props` and `StringStringEntryProto`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from starling.engine.onnx_graph import (
    ConstantTensor,
    ElementType,
    Graph,
    GraphNode,
    GraphPort,
)
from starling.engine.onnx_writer import write_graph
from starling.engine.opened_bundle import OpenedBundle
from starling.engine.protobuf_wire import bytes_field, text_field
from starling.protocol.model.parameter_layout import ModelParameter
from starling.protocol.model.source_ports import SourcePort, SourcePorts
from starling.protocol.model.training_bundle import INFER

PRODUCER = "starling"
_PRODUCER_FIELD, _METADATA_FIELD = 2, 14
_THETA, _X, _OUTPUT = "theta", "x", "output"
_DTYPES = {
    "float32": ElementType.FLOAT32,
    "int64": ElementType.INT64,
    "int32": ElementType.INT32,
    "bool": ElementType.BOOL,
}


def ordinary_model(
    bundle: OpenedBundle, theta: NDArray[np.float32], metadata: Mapping[str, str]
) -> bytes:
    """The model as an ONNX file of one graph.

    Args:
      bundle: Checked.
      theta: (d,) float32.
      metadata: Key to text; goes into `metadata_props` in this order.

    Returns:
      A serialised `ModelProto`: the outputs of `infer.onnx` with these parameters, but
      for the order in which a runtime adds up what it knows to be constant.
    """
    graph = bundle.graphs[INFER]
    ports = bundle.manifest.source or SourcePorts(
        (SourcePort(_X, "float32", bundle.manifest.input.shape),), _OUTPUT
    )
    draft = _Draft(graph, ports, bundle.manifest.parameters)
    draft.give_names()
    draft.take_parameters(theta.astype("<f4"))
    model = write_graph(draft.finished(bundle.manifest.name))
    entries = [
        bytes_field(_METADATA_FIELD, text_field(1, key) + text_field(2, value))
        for key, value in metadata.items()
    ]
    return b"".join((model, text_field(_PRODUCER_FIELD, PRODUCER), *entries))


def parameter_names(bundle: OpenedBundle) -> tuple[str, ...]:
    """Names of the initializers that make up theta, in its order."""
    draft = _Draft(bundle.graphs[INFER], None, bundle.manifest.parameters)
    if draft.parts() is None:
        return (_THETA,)
    return tuple([item.name for item in _trained(bundle.manifest.parameters)])


@dataclass
class _Draft:
    """A graph on its way from `infer.onnx` to an ordinary model."""

    graph: Graph
    ports: SourcePorts | None
    parameters: Sequence[ModelParameter]
    names: dict[str, str] = field(default_factory=dict)
    nodes: list[GraphNode] = field(default_factory=list)
    tensors: list[ConstantTensor] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def parts(self) -> dict[str, ModelParameter] | None:
        """Value to the parameter that it is, flat; None if theta is read otherwise."""
        trained = _trained(self.parameters)
        if len(trained) == 1:
            return {_THETA: trained[0]}
        users = [node for node in self.graph.nodes if _THETA in node.inputs]
        # The only form that the compiler writes; any other is kept as it is, with theta
        # as one constant.
        if len(users) != 1 or users[0].operator != "Split" or len(users[0].inputs) != 2:
            return None
        sizes = self._integers(users[0].inputs[1])
        if sizes != tuple([item.size for item in trained]):
            return None
        return dict(zip(users[0].outputs, trained, strict=True))

    def give_names(self) -> None:
        """Frees the names of the source model's ports and weights for them."""
        assert self.ports is not None
        reserved = {item.name for item in _trained(self.parameters)} | {_THETA}
        reserved |= {port.name for port in self.ports.inputs} | {self.ports.output}
        # An inner value of the bundle's graph may have the very name of a port or
        # weight.
        values = [tensor.name for tensor in self.graph.tensors]
        values += [name for node in self.graph.nodes for name in node.outputs if name]
        inputs = self.ports.inputs
        if len(inputs) == 1 and inputs[0].dtype == "float32":
            self.names[_X] = inputs[0].name
        else:
            values.append(_X)
        self.taken = reserved.union(values)
        for name in values:
            if name in reserved:
                self.names[name] = self._fresh(name)
        self.names[_OUTPUT] = self.ports.output

    def take_parameters(self, theta: NDArray[np.float32]) -> None:
        """Puts the values of theta in place of the input."""
        parts = self.parts()
        if parts is None:
            # Not as our compiler writes it: theta is one initializer.
            self.tensors.append(_tensor(_THETA, (len(theta),), theta))
            self.nodes += self.graph.nodes
            return
        flat: set[str] = set()
        for part in parts.values():
            assert part.offset is not None
            values = theta[part.offset : part.offset + part.size]
            self.tensors.append(_tensor(part.name, part.shape, values))
        for node in self.graph.nodes:
            if not (node.operator == "Split" and node.inputs[0] == _THETA):
                self._add(node, parts, flat)

    def _add(
        self, node: GraphNode, parts: Mapping[str, ModelParameter], flat: set[str]
    ) -> None:
        """Adds a node that may read parameters."""
        if node.operator == "Reshape" and node.inputs[0] in parts:
            part = parts[node.inputs[0]]
            sizes = self._integers(node.inputs[1])
            if sizes == part.shape:
                self.names[node.outputs[0]] = part.name
                return
            # A 0 in a Reshape copies the size of its input, which is flat in the bundle
            # and has the parameter's shape here.
            if sizes is not None and 0 not in sizes:
                inputs = (part.name, *node.inputs[1:])
                self.nodes.append(replace(node, inputs=inputs))
                return
        for name in node.inputs:
            # Once for each: several nodes may read the same parameter.
            if name in parts and name not in flat:
                flat.add(name)
                self._flatten(name, parts[name])
        self.nodes.append(node)

    def _flatten(self, name: str, part: ModelParameter) -> None:
        """Lets a value be a parameter's values in one row."""
        if len(part.shape) == 1:
            self.names[name] = part.name
            return
        shape = self._fresh(f"{part.name}_row_shape")
        self.tensors.append(_tensor(shape, (1,), np.array([-1], np.int64)))
        self.nodes.append(
            GraphNode("Reshape", "", (part.name, shape), (self._fresh(name),), {})
        )
        self.names[name] = self.nodes[-1].outputs[0]

    def _integers(self, name: str) -> tuple[int, ...] | None:
        for tensor in self.graph.tensors:
            if tensor.name == name and tensor.type.whole:
                return tensor.integers()
        return None

    def _fresh(self, name: str) -> str:
        """A name that no value has, before the change or after it."""
        while name in self.taken:
            name += "'"
        self.taken.add(name)
        return name

    def finished(self, name: str) -> Graph:
        """The graph by its new names, with the source model's ports."""
        assert self.ports is not None
        batch = next(port for port in self.graph.inputs if port.name == _X)
        assert batch.shape is not None
        inputs, before = self._inputs(batch.shape[0])
        nodes = [
            *before,
            *[
                replace(
                    node,
                    inputs=tuple([self.names.get(n, n) for n in node.inputs]),
                    outputs=tuple([self.names.get(n, n) for n in node.outputs]),
                )
                for node in self.nodes
            ],
        ]
        # Sizes of Split and Reshape that are left over would stand in the file as
        # constants that nobody reads.
        read = {value for node in nodes for value in node.inputs}
        constants = [
            replace(tensor, name=self.names.get(tensor.name, tensor.name))
            for tensor in self.graph.tensors
        ]
        outputs = [
            replace(port, name=self.names[port.name]) for port in self.graph.outputs
        ]
        return replace(
            self.graph,
            name=name,
            nodes=tuple(nodes),
            tensors=(
                *self.tensors,
                *[tensor for tensor in constants if tensor.name in read],
            ),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
        )

    def _inputs(self, batch: int | str) -> tuple[list[GraphPort], list[GraphNode]]:
        """The source model's inputs, and the nodes that make x of them."""
        assert self.ports is not None
        x = self.names.get(_X, _X)
        ports, nodes, rows = [], [], []
        many = len(self.ports.inputs) > 1
        for port in self.ports.inputs:
            kind = _DTYPES[port.dtype]
            ports.append(GraphPort(port.name, kind, (batch, *port.shape)))
            value = port.name
            if kind is not ElementType.FLOAT32:
                to = self._fresh(f"{port.name}_as_float") if many else x
                to_float = {"to": int(ElementType.FLOAT32)}
                nodes.append(GraphNode("Cast", "", (value,), (to,), to_float))
                value = to
            if many:
                shape = self._fresh(f"{port.name}_row_shape")
                sizes = np.array([-1, math.prod(port.shape)], np.int64)
                self.tensors.append(_tensor(shape, (2,), sizes))
                row = self._fresh(f"{port.name}_as_row")
                nodes.append(GraphNode("Reshape", "", (value, shape), (row,), {}))
                rows.append(row)
        if many:
            nodes.append(GraphNode("Concat", "", tuple(rows), (x,), {"axis": 1}))
        return ports, nodes


def _trained(parameters: Sequence[ModelParameter]) -> list[ModelParameter]:
    found = [item for item in parameters if item.offset is not None]
    # By offset: the file's initializers, one behind the other, must hash to the digest
    # on the chain.
    return sorted(found, key=lambda item: item.offset or 0)


def _tensor(
    name: str, shape: tuple[int, ...], values: NDArray[np.generic]
) -> ConstantTensor:
    kind = ElementType.INT64 if values.dtype == np.int64 else ElementType.FLOAT32
    return ConstantTensor(name, kind, shape, values.tobytes())
