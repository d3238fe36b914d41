"""An exported model: an ordinary ONNX file that computes what the bundle computes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from starling.agent import open_trainer
from starling.compiler import compile_model
from starling.compiler.bundle.compile_pipeline import Bundle
from starling.engine.opened_bundle import open_packed
from starling.export.onnx_model import ordinary_model, parameter_names
from starling.fleet.reference_models import build_model
from starling.protocol.ids import H

COUNT = 7
Feeds = dict[str, NDArray[Any]]


def _model(
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, list[int]]],
    output: tuple[str, int],
    weights: dict[str, NDArray[np.float32]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info(name, kind, ["n", *shape])
            for name, (kind, shape) in inputs.items()
        ],
        [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, ["n", output[1]])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.checker.check_model(made)
    return made


def _weights(seed: int, **shapes: tuple[int, ...]) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def reference(name: str, shape: tuple[int, ...]) -> onnx.ModelProto:
    return build_model(name, shape, 10, np.random.default_rng(2))


def several_inputs() -> onnx.ModelProto:
    """Tokens of a table, a switch and plain numbers."""
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["rows"], axis=0),
        helper.make_node("Flatten", ["rows"], ["flat"], axis=1),
        helper.make_node("Cast", ["switch"], ["on"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["flat", "on", "real"], ["all"], axis=1),
        helper.make_node("Gemm", ["all", "weight", "bias"], ["scores"]),
    ]
    inputs = {
        "tokens": (TensorProto.INT64, [3]),
        "switch": (TensorProto.BOOL, [2]),
        "real": (TensorProto.FLOAT, [4]),
    }
    weights = _weights(1, table=(9, 5), weight=(21, 3), bias=(3,))
    return _model(nodes, inputs, ("scores", 3), weights)


def names_of_rows() -> onnx.ModelProto:
    """Ports and a weight by the names of what is written between the ports and x."""
    nodes = [
        helper.make_node("Cast", ["a"], ["real"], to=TensorProto.FLOAT),
        helper.make_node(
            "Concat", ["x", "x_as_row", "real", "a_as_float"], ["all"], axis=1
        ),
        helper.make_node("Gemm", ["all", "a_as_row", "x_row_shape"], ["scores"]),
    ]
    inputs = {
        "x": (TensorProto.FLOAT, [2]),
        "x_as_row": (TensorProto.FLOAT, [3]),
        "a": (TensorProto.INT64, [2]),
        "a_as_float": (TensorProto.FLOAT, [1]),
    }
    weights = _weights(7, a_as_row=(8, 3), x_row_shape=(3,))
    return _model(nodes, inputs, ("scores", 3), weights)


def taken_names() -> onnx.ModelProto:
    """Names that the graphs of a bundle use themselves."""
    nodes = [
        helper.make_node("MatMul", ["output", "theta"], ["split_0"]),
        helper.make_node("Add", ["split_0", "reshape_1"], ["wide"]),
        helper.make_node("Tanh", ["wide"], ["gemm_0"]),
        helper.make_node("MatMul", ["gemm_0", "constant_0"], ["x"]),
    ]
    inputs = {"output": (TensorProto.FLOAT, [6])}
    weights = _weights(3, theta=(6, 5), reshape_1=(5,), constant_0=(5, 2))
    return _model(nodes, inputs, ("x", 2), weights)


def one_weight() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["a", "w"], ["b"])]
    inputs = {"a": (TensorProto.FLOAT, [3])}
    return _model(nodes, inputs, ("b", 2), _weights(4, w=(3, 2)))


def whole_numbers() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], axis=0),
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["scores"]),
    ]
    inputs = {"ids": (TensorProto.INT64, [4])}
    return _model(nodes, inputs, ("scores", 3), _weights(5, table=(11, 6), w=(6, 3)))


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "softmax": (lambda: reference("softmax", (64,)), "cross-entropy"),
    "mlp": (lambda: reference("mlp", (64,)), "cross-entropy"),
    "cnn": (lambda: reference("cnn", (1, 28, 28)), "cross-entropy"),
    "several inputs": (several_inputs, "cross-entropy"),
    "names of rows": (names_of_rows, "mse"),
    "taken names": (taken_names, "mse"),
    "one weight": (one_weight, "mse"),
    "whole numbers": (whole_numbers, "cross-entropy"),
}


def _moved(bundle: Bundle) -> NDArray[np.float32]:
    """Other parameters than the source model's."""
    noise = np.random.default_rng(9).normal(size=bundle.theta.shape) / 8
    return (bundle.theta + noise).astype(np.float32)


def _feeds(source: onnx.ModelProto) -> Feeds:
    rng = np.random.default_rng(6)
    found: Feeds = {}
    for port in source.graph.input:
        kind = port.type.tensor_type
        shape = (COUNT, *[size.dim_value for size in kind.shape.dim[1:]])
        if kind.elem_type == TensorProto.FLOAT:
            found[port.name] = rng.normal(size=shape).astype(np.float32)
        elif kind.elem_type == TensorProto.BOOL:
            found[port.name] = rng.integers(0, 2, shape).astype(bool)
        else:
            found[port.name] = rng.integers(0, 9, shape)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_exported_model_is_what_evaluate_computes(name: str) -> None:
    make, loss = MODELS[name]
    source = make()
    bundle = compile_model(source, loss=loss)
    theta = _moved(bundle)

    exported = ordinary_model(open_packed(bundle.packed), theta, {"starling.note": "ä"})

    onnx.checker.check_model(onnx.load_model_from_string(exported), full_check=True)
    feeds = _feeds(source)
    session = onnxruntime.InferenceSession(exported)
    (output,) = session.run(None, feeds)
    manifest = bundle.manifest
    x = np.concatenate(
        [value.reshape(COUNT, -1).astype(np.float32) for value in feeds.values()], 1
    ).reshape(COUNT, *manifest.input.shape)
    y = np.zeros((COUNT, *manifest.target.shape), manifest.target.dtype)
    _, expected = open_trainer(bundle.packed).evaluate(theta, x, y)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
    ports = [(item.name, item.shape[1:], item.type) for item in session.get_inputs()]
    plain = onnxruntime.InferenceSession(source.SerializeToString())
    assert ports == [(i.name, i.shape[1:], i.type) for i in plain.get_inputs()]
    assert [item.name for item in session.get_outputs()] == [
        item.name for item in plain.get_outputs()
    ]
    assert session.get_modelmeta().custom_metadata_map == {"starling.note": "ä"}


@pytest.mark.parametrize("name", MODELS)
def test_exported_parameters_compiled_again_have_the_chains_digest(name: str) -> None:
    make, loss = MODELS[name]
    bundle = compile_model(make(), loss=loss)
    theta = _moved(bundle)
    opened = open_packed(bundle.packed)

    exported = ordinary_model(opened, theta, {})

    again = compile_model(exported, loss=loss)
    assert H(again.theta.astype("<f4").tobytes()) == H(theta.astype("<f4").tobytes())
    assert again.manifest.source == bundle.manifest.source
    held = {
        item.name: numpy_helper.to_array(item)
        for item in onnx.load_model_from_string(exported).graph.initializer
    }
    rows = [held[name].ravel() for name in parameter_names(opened)]
    assert np.concatenate(rows).tobytes() == theta.tobytes()
    for item in bundle.manifest.parameters:
        assert held[item.name].shape == item.shape


def test_exported_model_with_source_weights_equals_the_source() -> None:
    source = several_inputs()
    bundle = compile_model(source, loss="cross-entropy")

    exported = ordinary_model(open_packed(bundle.packed), bundle.theta, {})

    feeds = _feeds(source)
    (ours,) = onnxruntime.InferenceSession(exported).run(None, feeds)
    model = source.SerializeToString()
    (theirs,) = onnxruntime.InferenceSession(model).run(None, feeds)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
