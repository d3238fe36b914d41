"""Models that the reader is given."""

from typing import Any

from onnx import TensorProto

from starling.protocol.model.training_bundle import CONSTANTS
from tests.unit.engine.small_graphs import made

PLACE = (("location", CONSTANTS), ("offset", "8"), ("length", "32"))


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
