"""Moves large constants of a bundle's graphs into one file that all of them read.

Frozen weights stand in every graph of a bundle; kept once, they take a quarter of its
bytes and of a board's memory. ONNX calls this external data, and any reader of ONNX
that finds the files in one folder understands it.

Source: ONNX IR specification, "External Tensor Data".
"""

from collections.abc import Mapping

import onnx

from starling.engine.onnx_reader import EXTERNAL_KEYS
from starling.protocol.model.training_bundle import CONSTANTS

SHARED_BYTES_MIN = 4096
"""Of a constant that is moved: what says where it is takes some sixty bytes."""
_ALIGNMENT = 64
"""Bytes: vector instructions read what begins at a multiple in one go."""


def with_shared_constants(graphs: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same graphs, and with them the file that their large constants stand in.

    Args:
      graphs: Name to serialised model, as `GraphBuilder.finish` gives it.
    """
    held = bytearray()
    places: dict[bytes, int] = {}
    files = {}
    for name, graph in graphs.items():
        model = onnx.ModelProto()
        model.ParseFromString(graph)
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) >= SHARED_BYTES_MIN:
                _move(tensor, held, places)
        files[name] = model.SerializeToString(deterministic=True)
    return {**files, CONSTANTS: bytes(held)}


def _move(tensor: onnx.TensorProto, held: bytearray, places: dict[bytes, int]) -> None:
    raw = tensor.raw_data
    # By content: the same weight has another name in each graph.
    if raw not in places:
        held.extend(bytes(-len(held) % _ALIGNMENT))
        places[raw] = len(held)
        held.extend(raw)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    values = (CONSTANTS, str(places[raw]), str(len(raw)))
    for key, value in zip(EXTERNAL_KEYS, values, strict=True):
        tensor.external_data.add(key=key, value=value)
