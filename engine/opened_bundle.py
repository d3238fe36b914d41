"""A bundle whose graphs and parameters were checked: what an engine takes.

Every process that runs something of a bundle, publishes one or votes for its task opens
it here first, and by this one rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from starling.engine.graph_check import checked_graph
from starling.engine.npy_vector import read_vector
from starling.engine.onnx_graph import ElementType, Graph, GraphPort
from starling.engine.onnx_reader import KnownNodes
from starling.protocol.errors import DecodeError, ProtocolError
from starling.protocol.model.training_bundle import (
    CONSTANTS,
    EVALUATE,
    GRADIENT,
    INFER,
    MANIFEST,
    PRIVATE_GRADIENT,
    THETA,
    BundleManifest,
    manifest_from_json,
    unpack_bundle,
)
from starling.protocol.model.training_bundle import TensorSpec as Declared

_TYPES = {"float32": ElementType.FLOAT32, "int64": ElementType.INT64}
_INPUTS = {
    GRADIENT: ("theta", "x", "y"),
    PRIVATE_GRADIENT: ("theta", "x", "y", "clip"),
    EVALUATE: ("theta", "x", "y"),
    INFER: ("theta", "x"),
}
_OUTPUTS = {
    GRADIENT: ("gradient", "loss"),
    PRIVATE_GRADIENT: ("gradient", "loss", "norm"),
    EVALUATE: ("loss", "output"),
    INFER: ("output",),
}
GRAPHS = tuple(_INPUTS)
"""Names of the files that are graphs."""


@dataclass(frozen=True)
class OpenedBundle:
    """Contents of a bundle, checked.

    Attributes:
      manifest: Its manifest.
      graphs: File name to graph; large constants are views of one file's bytes.
      theta: (d,) float32, finite; not to be written to.
    """

    manifest: BundleManifest
    graphs: Mapping[str, Graph]
    theta: NDArray[np.float32]


def open_packed(packed: bytes) -> OpenedBundle:
    """Opens a bundle in its wire form.

    Raises:
      DecodeError, LimitError, NonFinite: If it is none, or not one that is run.
    """
    return open_files(unpack_bundle(packed))


def open_files(files: Mapping[str, bytes]) -> OpenedBundle:
    """Checks the files of a bundle, as `training_bundle.unpack_bundle` gives them.

    Raises:
      DecodeError, LimitError, NonFinite: Naming the file that is not one that is run.
    """
    manifest = manifest_from_json(files[MANIFEST])
    theta = read_vector(files[THETA], THETA)
    if len(theta) != manifest.dimension:
        raise DecodeError(f"{THETA}: expected {manifest.dimension} values")
    # Shared, as the graphs of a bundle have most nodes in common: each is read once.
    nodes: KnownNodes = {}
    graphs = {name: _graph(name, files, manifest, nodes) for name in GRAPHS}
    return OpenedBundle(manifest, graphs, theta)


def _graph(
    name: str, files: Mapping[str, bytes], manifest: BundleManifest, nodes: KnownNodes
) -> Graph:
    try:
        graph = checked_graph(files[name], files[CONSTANTS], nodes)
    except ProtocolError as error:
        # Its class stays: the reason of a refusal follows from it.
        raise type(error)(f"{name}: {error}") from error
    inputs = {port.name: port for port in graph.inputs}
    outputs = [port.name for port in graph.outputs]
    if sorted(inputs) != sorted(_INPUTS[name]) or tuple(outputs) != _OUTPUTS[name]:
        raise DecodeError(f"{name}: has other inputs or outputs")
    for key, port in inputs.items():
        _check_input(name, port, _expected(key, manifest))
    for port in graph.outputs:
        if port.type is not ElementType.FLOAT32 or port.shape is None:
            raise DecodeError(f"{name}: output {port.name} is of another type")
    return graph


def _expected(
    name: str, manifest: BundleManifest
) -> tuple[ElementType, tuple[int | None, ...]]:
    if name == "theta":
        return ElementType.FLOAT32, (manifest.dimension,)
    if name == "clip":
        return ElementType.FLOAT32, ()
    port: Declared = manifest.input if name == "x" else manifest.target
    return _TYPES[port.dtype], (None, *port.shape)


def _check_input(
    file: str, port: GraphPort, expected: tuple[ElementType, tuple[int | None, ...]]
) -> None:
    """Compares an input with the manifest; None is the batch, whose size has a name."""
    kind, shape = expected
    # That the batch's size is open counts, and not what it is called.
    sizes = [None if isinstance(size, str) else size for size in port.shape or ()]
    if port.shape is None or port.type is not kind or tuple(sizes) != shape:
        raise DecodeError(f"{file}: input {port.name} is not the manifest's")
