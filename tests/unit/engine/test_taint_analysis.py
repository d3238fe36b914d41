"""What it costs to check a graph that was written to cost much."""

import tracemalloc
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from starling.engine.onnx_graph import ConstantTensor, Graph
from starling.engine.onnx_reader import read_graph
from starling.engine.operator_allowlist import MANY
from starling.engine.taint_analysis import check_sizes
from starling.protocol.errors import DecodeError
from tests.unit.engine.small_graphs import made, node, whole


def graph_of(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, NDArray[np.generic]]
) -> Graph:
    return read_graph(made(nodes, constants).SerializeToString())


def test_sizes_that_many_constants_make_cost_no_memory() -> None:
    # Each input would add its numbers again: 65 million of them.
    nodes = [
        node("Concat", ["s"] * (MANY - 1), ["size"], axis=0),
        node("Expand", ["x", "size"], ["out"]),
    ]
    graph = graph_of(nodes, {"s": whole(*[1] * 4096)})

    tracemalloc.start()
    with pytest.raises(DecodeError, match="plain constant"):
        check_sizes(graph)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 4 << 20


def test_more_sizes_than_axes_are_refused() -> None:
    # The product of so many has more digits than Python writes out.
    sizes = whole(*[1 << 62] * 300)

    with pytest.raises(DecodeError, match="plain constant"):
        check_sizes(graph_of([node("Expand", ["x", "s"], ["out"])], {"s": sizes}))


def test_divisor_is_read_once_however_many_nodes_divide_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []
    judge = ConstantTensor.is_positive

    def counted(tensor: ConstantTensor) -> bool:
        read.append(tensor.name)
        return judge(tensor)

    monkeypatch.setattr(ConstantTensor, "is_positive", counted)
    nodes = [node("Div", ["y", "d"], [f"q{i}"]) for i in range(50)]
    nodes += [node("Mod", ["q0", "e"], ["m"]), node("Neg", ["x"], ["out"])]

    check_sizes(graph_of(nodes, {"d": whole(7), "e": whole(5)}))

    assert sorted(read) == ["d", "e"]
