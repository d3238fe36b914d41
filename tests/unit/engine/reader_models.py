"""Models that the reader is given."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from starling.protocol.model.training_bundle import CONSTANTS
from tests.unit.engine.small_graphs import made, node, whole

PLACE = (("location", CONSTANTS), ("offset", "8"), ("length", "32"))


def six_node_model() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="first"),
        node("Softmax", ["h"], ["s"], axis=-1),
        node("LeakyRelu", ["s"], ["r"], alpha=0.25),
        node("DepthToSpace", ["r"], ["d"], blocksize=1, mode="CRD"),
        node("Transpose", ["d"], ["t"], perm=[1, 0]),
        node("Reshape", ["t", "size"], ["out"]),
    ]
    constants: dict[str, NDArray[np.generic]] = {
        "w": np.ones((4, 2), np.float32),
        "size": whole(-1),
    }
    return made(nodes, constants)


def _beside(
    entries: tuple[tuple[str, str], ...] = PLACE,
    location: TensorProto.DataLocation | None = TensorProto.EXTERNAL,
    tensors: int = 1,
    **fields: Any,  # noqa: ANN401 - whatever the message takes
) -> bytes:
    """Tensors of eight numbers whose bytes stand in the file beside the model."""
    model = made([], {})
    for count in range(tensors):
        tensor = TensorProto(name=f"t{count}", data_type=TensorProto.FLOAT, **fields)
        tensor.dims.append(8)
        if location is not None:
            tensor.data_location = location
        for key, content in entries:
            tensor.external_data.add(key=key, value=content)
        model.graph.initializer.append(tensor)
    data: bytes = model.SerializeToString()
    return data
