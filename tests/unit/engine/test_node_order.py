import heapq
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.engine.graph_check import check_graph, checked_graph
from starling.engine.node_order import SORTED_NODES_MIN, by_depth
from starling.engine.onnx_graph import Graph
from starling.engine.onnx_writer import write_graph
from starling.engine.runtime import onnxruntime_session
from starling.engine.runtime.onnxruntime_session import open_session
from tests.unit.engine.small_graphs import made, node

LAYERS = 40


def with_way_back(layers: int) -> Graph:
    """A chain and its way back, of which each step reads one of the chain's values."""
    values = ["x", *[f"f{place}" for place in range(layers)]]
    nodes = [node("Tanh", [read], [out]) for read, out in pairwise(values)]
    slope = values[-1]
    for place, read in reversed(list(enumerate(values[:-1]))):
        out = f"b{place}" if place else "out"
        nodes.append(node("Neg", [read], [f"s{place}"]))
        nodes.append(node("Mul", [slope, f"s{place}"], [out]))
        slope = out
    return checked_graph(made(nodes).SerializeToString())


def waiting(graph: Graph) -> int:
    """The most nodes that could be run next while always the first of them is."""
    readers: dict[str, list[int]] = {}
    missing = {}
    made_here = {name for each in graph.nodes for name in each.outputs}
    for place, each in enumerate(graph.nodes):
        reads = {name for name in each.inputs if name in made_here}
        missing[place] = len(reads)
        for name in reads:
            readers.setdefault(name, []).append(place)
    ready = [place for place, count in missing.items() if not count]
    most = 0
    while ready:
        most = max(most, len(ready))
        for name in graph.nodes[heapq.heappop(ready)].outputs:
            for place in readers.get(name, ()):
                missing[place] -= 1
                if not missing[place]:
                    heapq.heappush(ready, place)
    return most


def test_sorted_by_depth_few_nodes_wait_however_long_the_way_back() -> None:
    graph = with_way_back(LAYERS)

    assert waiting(graph) > LAYERS / 2
    assert waiting(by_depth(graph)) <= 3


def test_sorting_by_depth_moves_nodes_and_changes_no_value() -> None:
    graph = with_way_back(LAYERS)
    feeds: dict[str, NDArray[np.generic]] = {
        "theta": np.ones(4, np.float32),
        "x": np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4),
        "y": np.zeros(3, np.int64),
    }

    found = by_depth(graph)

    check_graph(found)
    assert sorted(found.nodes, key=str) == sorted(graph.nodes, key=str)
    assert found.nodes != graph.nodes
    assert by_depth(found) == found
    (before,), (after,) = (open_session(each).run(feeds) for each in (graph, found))
    np.testing.assert_array_equal(after, before)


def test_outputs_that_nobody_reads_make_no_input_that_is_left_out_deeper() -> None:
    nodes = [
        node("Tanh", ["x"], ["deep"]),
        node("Split", ["deep"], ["half", ""], axis=1, num_outputs=2),
        node("Clip", ["x", "", "theta"], ["shallow"]),
        node("Concat", ["half", "shallow"], ["out"], axis=1),
    ]
    graph = checked_graph(made(nodes).SerializeToString())

    found = [each.operator for each in by_depth(graph).nodes]

    assert found == ["Tanh", "Clip", "Split", "Concat"]


@pytest.mark.parametrize(
    ("layers", "optimised", "by_their_depth"),
    [
        (LAYERS, True, False),
        (LAYERS, False, True),
        (SORTED_NODES_MIN // 3 + 1, True, True),
    ],
)
def test_session_is_given_large_graphs_by_depth(
    layers: int,
    optimised: bool,
    by_their_depth: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = with_way_back(layers)
    given: list[Graph] = []

    def writing(written: Graph) -> bytes:
        given.append(written)
        return write_graph(written)

    monkeypatch.setattr(onnxruntime_session, "write_graph", writing)

    open_session(graph, optimised=optimised)

    assert given == [by_depth(graph) if by_their_depth else graph]
