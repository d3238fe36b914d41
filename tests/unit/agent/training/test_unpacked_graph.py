from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.training.networks import NETWORKS
from starling.agent.training.unpacked_graph import ParameterView, UnpackedGraph, unpack
from starling.compiler import compile_model
from starling.engine.graph_check import check_graph, checked_graph
from starling.engine.onnx_graph import ConstantTensor, ElementType, Graph
from starling.engine.onnx_reader import read_graph
from starling.engine.runtime.onnxruntime_session import open_session
from starling.protocol.model.training_bundle import GRADIENT, PRIVATE_GRADIENT
from tests.unit.compiler.small_models import build, node, weight

RNG = np.random.default_rng(5)


def run_unpacked(
    graph: UnpackedGraph,
    theta: NDArray[np.float32],
    feeds: dict[str, NDArray[np.generic]],
) -> list[NDArray[np.generic]]:
    parts = {
        view.name: theta[view.start : view.stop].reshape(view.shape)
        for view in graph.parameters
    }
    results = open_session(graph.graph).run({**feeds, **parts})
    count = len(graph.gradients)
    whole = np.concatenate([part.reshape(-1) for part in results[:count]])
    return [whole, *results[count:]]


@pytest.mark.parametrize("file", [GRADIENT, PRIVATE_GRADIENT])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_unpacked_graph_gives_the_same_bits(name: str, file: str) -> None:
    network = NETWORKS[name]
    bundle = compile_model(network.make(RNG), loss="cross-entropy")
    feeds: dict[str, NDArray[np.generic]] = {
        "x": RNG.random((3, *network.row), np.float32),
        "y": RNG.integers(0, network.classes, 3),
    }
    if file == PRIVATE_GRADIENT:
        feeds["clip"] = np.array(0.1, np.float32)

    opened = checked_graph(bundle.standalone(file))
    graph = unpack(opened, bundle.manifest.dimension)

    assert graph is not None
    wanted = open_session(opened).run({**feeds, "theta": bundle.theta})
    for one, other in zip(
        run_unpacked(graph, bundle.theta, feeds), wanted, strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_unpacked_graph_passes_the_board_s_check_and_reads_no_theta() -> None:
    bundle = compile_model(NETWORKS["cnn"].make(RNG), loss="cross-entropy")

    opened = checked_graph(bundle.standalone(GRADIENT))
    unpacked = unpack(opened, bundle.manifest.dimension)

    assert unpacked is not None
    check_graph(unpacked.graph)
    assert "theta" not in [port.name for port in unpacked.graph.inputs]
    assert "gradient" not in [port.name for port in unpacked.graph.outputs]
    assert not {"Split", "Concat"} & set(unpacked.graph.operators)


def test_part_of_the_gradient_that_can_be_had_first_stands_last() -> None:
    """ONNX Runtime computes the last of the nodes that nothing reads first."""
    bundle = compile_model(NETWORKS["perceptron"].make(RNG), loss="cross-entropy")

    graph = unpack(
        checked_graph(bundle.standalone(GRADIENT)), bundle.manifest.dimension
    )

    assert graph is not None
    last = graph.graph.nodes[-1].outputs[0]
    first_layer, head = graph.gradients[:2], graph.gradients[2:]
    read = {name for item in graph.graph.nodes for name in item.inputs}
    order = [n.outputs[0] for n in graph.graph.nodes if n.outputs[0] not in read]
    assert last not in first_layer
    assert max(map(order.index, first_layer)) < min(map(order.index, head))


def test_model_of_one_parameter_is_unpacked() -> None:
    model = build(
        [node("MatMul", ["x", "w"], ["out"])], {"w": weight(RNG, 4, 3)}, (4,), (3,)
    )
    bundle = compile_model(model, loss="cross-entropy")

    graph = unpack(checked_graph(bundle.standalone(GRADIENT)), 12)

    assert graph is not None
    assert [(view.start, view.shape) for view in graph.parameters] == [(0, (4, 3))]


def made(*nodes: onnx.NodeProto) -> Graph:
    """A graph of theta (4,) with sizes 1 and 3."""
    value = helper.make_tensor_value_info
    sizes = numpy_helper.from_array(np.array([1, 3], np.int64), "sizes")
    graph = helper.make_graph(
        list(nodes),
        "g",
        [value("theta", TensorProto.FLOAT, [4]), value("x", TensorProto.FLOAT, ["n"])],
        [value("gradient", TensorProto.FLOAT, [4])],
        [sizes],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return read_graph(model.SerializeToString())


SPLIT = node("Split", ["theta", "sizes"], ["a", "b"], axis=0)
JOIN = node("Concat", ["c", "d"], ["gradient"], axis=0)
ODD = {
    "theta_itself": (node("Identity", ["theta"], ["gradient"]),),
    "part_of_theta": (SPLIT, node("Concat", ["a", "b"], ["gradient"], axis=0)),
    "part_twice": (SPLIT, node("Neg", ["a"], ["c"]), JOIN, node("Neg", ["c"], ["e"])),
    "nothing": (SPLIT,),
}


@pytest.mark.parametrize("nodes", ODD.values(), ids=ODD)
def test_gradient_that_is_no_row_of_results_stays_closed(
    nodes: tuple[onnx.NodeProto, ...],
) -> None:
    assert unpack(made(*nodes), 4) is None


def test_theta_that_is_also_read_whole_is_an_input_too() -> None:
    nodes = [
        SPLIT,
        node("Neg", ["a"], ["c"]),
        node("ReduceMax", ["theta"], ["m"], keepdims=1),
        node("Mul", ["b", "m"], ["d"]),
        JOIN,
    ]

    graph = unpack(made(*nodes), 4)

    assert graph is not None
    assert set(graph.parameters) == {
        ParameterView("a", 0, (1,)),
        ParameterView("b", 1, (3,)),
        ParameterView("theta", 0, (4,)),
    }
    theta = np.array([1, 2, 3, 4], np.float32)
    (found,) = run_unpacked(graph, theta, {"x": np.zeros(1, np.float32)})
    np.testing.assert_array_equal(found, [-1, 8, 12, 16])


def test_cut_that_is_no_row_of_theta_stays_a_node() -> None:
    nodes = [
        # (2, 2) cut into columns: they do not lie in theta one after the other.
        node("Reshape", ["theta", "square"], ["s"]),
        node("Split", ["s", "ones"], ["p", "q"], axis=1),
        node("Neg", ["p"], ["c"]),
        node("Neg", ["q"], ["d"]),
        node("Concat", ["c", "d"], ["e"], axis=1),
        node("Reshape", ["e", "four"], ["gradient"]),
    ]
    sizes = {"square": [2, 2], "ones": [1, 1], "four": [4]}
    graph = made(*nodes)
    tensors = [
        ConstantTensor(
            name, ElementType.INT64, (len(entries),), np.array(entries, "<i8").tobytes()
        )
        for name, entries in sizes.items()
    ]

    opened = unpack(replace(graph, tensors=tuple(tensors)), 4)

    assert opened is not None
    assert [view.name for view in opened.parameters] == ["s"]
    theta = np.array([1, 2, 3, 4], np.float32)
    (found,) = run_unpacked(opened, theta, {"x": np.zeros(1, np.float32)})
    np.testing.assert_array_equal(found, [-1, -2, -3, -4])
