"""Names of the source model's inputs and output, for a later export."""

import math

import onnx
from onnx import TensorProto

from starling.compiler.ir.network import Network
from starling.compiler.rewrite.model_inputs import inputs, row
from starling.protocol.errors import DecodeError
from starling.protocol.model.source_ports import (
    INPUTS_MAX,
    SourcePort,
    SourcePorts,
    read_source,
)

_DTYPES: dict[int, str] = {
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.BOOL: "bool",
}


def source_ports(proto: onnx.ModelProto, network: Network) -> SourcePorts | None:
    """The signature of a model.

    Args:
      proto: As `reader.model_file.load` returns it.
      network: What was read from it.

    Returns:
      None where no export could keep it: a name is too long or empty, or the inputs
      are not what x is made of.
    """
    entries = inputs(proto)
    ports = [
        SourcePort(
            entry.name,
            _DTYPES.get(entry.type.tensor_type.elem_type, "float32"),
            row(entry),
        )
        for entry in entries[:INPUTS_MAX]
    ]
    if len(entries) > INPUTS_MAX:
        return None
    try:
        # As whoever opens the bundle will read it.
        stated = SourcePorts(tuple(ports), network.output).document()
        found = read_source(stated, "source")
        sizes = [size for size in network.shapes[network.input] if size is not None]
        found.check_row(math.prod(sizes))
    except DecodeError:
        return None
    return found
