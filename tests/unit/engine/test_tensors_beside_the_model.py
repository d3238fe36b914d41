"""Tensors in a file beside the model: plainly there, or refused."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from starling.engine.onnx_reader import (
    GRAPH_BYTES_MAX,
    read_graph,
)
from starling.engine.onnx_writer import write_graph
from starling.protocol.errors import DecodeError, LimitError
from starling.protocol.model.training_bundle import CONSTANTS
from tests.unit.engine.reader_models import (
    PLACE,
    _beside,
)

BESIDE = np.arange(100, dtype=np.float32).tobytes()


def test_tensor_in_the_file_beside_the_model_is_a_view_of_it() -> None:
    graph = read_graph(_beside(), BESIDE)

    (tensor,) = graph.tensors
    assert isinstance(tensor.raw, memoryview)
    assert tensor.raw.obj is BESIDE
    assert bytes(tensor.raw) == BESIDE[8:40]
    assert read_graph(write_graph(graph)) == graph


def _entry(key: str, value_: str) -> tuple[tuple[str, str], ...]:
    return tuple([(k, value_ if k == key else v) for k, v in PLACE])


OUTSIDE: dict[str, Callable[[], bytes]] = {
    "another file": lambda: _beside(_entry("location", "weights.bin")),
    "a path": lambda: _beside(_entry("location", "/etc/passwd")),
    "a path up": lambda: _beside(_entry("location", f"../{CONSTANTS}")),
    "beyond the end": lambda: _beside(_entry("offset", "372")),
    "far beyond the end": lambda: _beside(_entry("offset", "9" * 19)),
    "negative": lambda: _beside(_entry("offset", "-8")),
    "a sign": lambda: _beside(_entry("offset", "+8")),
    "a leading zero": lambda: _beside(_entry("offset", "08")),
    "other digits": lambda: _beside(_entry("offset", "\u0668")),
    "no number": lambda: _beside(_entry("length", "")),
    "too short for its shape": lambda: _beside(_entry("length", "28")),
    "no entries": lambda: _beside(()),
    "no offset": lambda: _beside(PLACE[::2]),
    "another order": lambda: _beside(PLACE[::-1]),
    "an entry more": lambda: _beside((*PLACE, ("checksum", "00"))),
    "an entry twice": lambda: _beside((*PLACE, PLACE[0])),
    "without its location": lambda: _beside(location=None),
    "in the model, too": lambda: _beside(raw_data=bytes(32)),
    "said to be in the model": lambda: _beside(location=TensorProto.DEFAULT),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_tensor_that_is_not_plainly_in_the_file_beside_is_refused(case: str) -> None:
    with pytest.raises(DecodeError):
        read_graph(OUTSIDE[case](), BESIDE)


def test_model_whose_file_is_not_given_is_refused() -> None:
    with pytest.raises(DecodeError, match=CONSTANTS):
        read_graph(_beside())


def test_tensors_that_share_bytes_count_each() -> None:
    beside = bytes(1 << 20)
    one = (PLACE[0], ("offset", "0"), ("length", str(1 << 20)))
    data = onnx.load_from_string(_beside(one, tensors=GRAPH_BYTES_MAX // len(beside)))
    for tensor in data.graph.initializer:
        tensor.dims[0] = len(beside) // 4
    assert read_graph(data.SerializeToString(), beside).tensors

    more = data.graph.initializer.add()
    more.CopyFrom(data.graph.initializer[0])
    more.name = "more"
    with pytest.raises(LimitError, match="bytes of tensors"):
        read_graph(data.SerializeToString(), beside)
