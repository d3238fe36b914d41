import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from starling.compiler import compile_model
from starling.compiler.bundle.memory_estimate import need, needs
from starling.protocol.model.training_bundle import GRADIENT, PRIVATE_GRADIENT
from tests.unit.compiler.small_models import cnn, node


def _chain() -> bytes:
    """x, 4 floats each, doubled, its tanh, reshaped, doubled, under 3 constants."""
    graph = helper.make_graph(
        [
            node("Add", ["x", "x"], ["a"]),
            node("Tanh", ["a"], ["t"]),
            node("Reshape", ["t", "shape"], ["b"]),
            node("Add", ["b", "b"], ["out"]),
        ],
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 2, 2])],
        [numpy_helper.from_array(np.array([-1, 2, 2], np.int64), "shape")],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize("batch", [1, 5])
def test_need_of_a_chain_holds_input_output_and_one_value(batch: int) -> None:
    found = need(_chain(), batch)

    assert found.constants == 3 * 8
    assert found.peak == 3 * batch * 16
    assert found.arrays == 0
    assert found.nodes == 4


def test_need_between_two_batch_sizes_is_the_one_of_each() -> None:
    graph = compile_model(cnn(), loss="cross-entropy").files[PRIVATE_GRADIENT]

    found = needs(graph, (1, 7, 64))

    assert found == {batch: need(graph, batch) for batch in (1, 7, 64)}


def test_need_counts_theta_and_two_gradients_as_arrays_of_the_caller() -> None:
    bundle = compile_model(_deep(2, 512), loss="mse")

    found = need(bundle.files[GRADIENT], 1)

    theta = 4 * bundle.manifest.dimension
    assert found.arrays == 3 * theta
    # No part of them stands among the values in between.
    assert found.peak < theta


def test_need_of_the_reference_network_grows_with_the_batch_alone() -> None:
    graph = compile_model(cnn(), loss="cross-entropy").files[PRIVATE_GRADIENT]

    ten, twenty, thirty = [need(graph, batch) for batch in (10, 20, 30)]

    assert ten.constants == thirty.constants
    assert thirty.peak - twenty.peak == twenty.peak - ten.peak > 0


def test_need_knows_the_size_of_every_value() -> None:
    model = onnx.ModelProto()
    model.ParseFromString(compile_model(cnn(), loss="cross-entropy").files[GRADIENT])
    several = need(model.SerializeToString(), 32)

    # Patches of both convolutions alone: 250 and 160 windows of 25 and 250 values.
    assert several.peak > 32 * 4 * (576 * 25 + 64 * 250)


def _deep(layers: int, width: int = 256) -> onnx.ModelProto:
    """A perceptron of equal layers."""
    rng = np.random.default_rng(3)
    nodes, weights, last = [], [], "x"
    for k in range(layers):
        nodes += [
            node("Gemm", [last, f"w{k}"], [f"z{k}"]),
            node("Tanh", [f"z{k}"], [f"a{k}"]),
        ]
        values = rng.normal(size=(width, width)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{k}"))
        last = f"a{k}"
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", width])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_need_lets_go_of_a_layer_before_the_way_back_ends() -> None:
    """Of each layer its value is kept, and only one cotangent at a time."""
    layers, batch = 12, 4096
    graph = compile_model(_deep(layers), loss="mse").files[GRADIENT]
    value = batch * 256 * 4

    assert need(graph, batch).peak < (layers + 6) * value + 4 * layers * 256 * 256 * 2
