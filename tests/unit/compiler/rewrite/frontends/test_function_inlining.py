"""Functions are written out: a model's own, and those that define operators."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from starling.compiler import CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.ir.graph_writer import Attribute
from starling.compiler.reader.model_file import load
from starling.protocol.errors import DecodeError, FederationError, LimitError
from starling.protocol.model.training_bundle import INFER
from tests.unit.compiler.small_models import build, node, weight

RNG = np.random.default_rng(81)
OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("my", 1)]


def _with(*functions: onnx.FunctionProto) -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("First", ["h"], ["out"], "call", domain="my"),
    ]
    model = build(nodes, {"w": weight(RNG, 4, 3)}, (4,), (3,), 18)
    model.functions.extend(functions)
    model.opset_import.add(domain="my", version=1)
    return model


def _function(name: str, *nodes: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function("my", name, ["a"], ["b"], list(nodes), OPSETS)


def _calling(*names: str) -> list[onnx.NodeProto]:
    values = ["a", *[f"v{index}" for index in range(len(names) - 1)], "b"]
    return [
        helper.make_node(name, [before], [after], domain="my")
        for name, before, after in zip(names, values, values[1:], strict=False)
    ]


def test_functions_of_a_model_are_written_out() -> None:
    square = _function("Square", node("Mul", ["a", "a"], ["b"]))
    model = _with(_function("First", *_calling("Square", "Square")), square)

    bundle = compile_model(model, loss="mse")

    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE
    x = RNG.standard_normal((5, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(bundle.standalone(INFER))
    (found,) = session.run(None, {"theta": bundle.theta, "x": x})
    np.testing.assert_allclose(found, (x @ bundle.theta.reshape(4, 3)) ** 4, rtol=1e-4)


def test_functions_of_one_name_are_told_by_their_overload() -> None:
    halves = []
    for kind in ("Tanh", "Sigmoid"):
        half = _function("Bend", node(kind, ["a"], ["b"]))
        half.overload = kind
        halves.append(half)
    calls = [
        helper.make_node("Bend", ["a"], ["v"], domain="my", overload="Tanh"),
        helper.make_node("Bend", ["v"], ["b"], domain="my", overload="Sigmoid"),
    ]
    model = _with(_function("First", *calls), *halves)
    model.ir_version = 10

    kinds = [item.op_type for item in load(model).graph.node]

    assert kinds == ["MatMul", "Tanh", "Sigmoid"]


HOSTILE: Mapping[str, tuple[Callable[[], onnx.ModelProto], type[FederationError]]] = {
    "a circle": (
        lambda: _with(
            _function("First", *_calling("Second")),
            _function("Second", *_calling("First")),
        ),
        DecodeError,
    ),
    "doubling twenty times": (
        lambda: _with(
            _function("First", *_calling("F0", "F0")),
            *[_function(f"F{k}", *_calling(*[f"F{k + 1}"] * 2)) for k in range(20)],
            _function("F20", node("Neg", ["a"], ["b"])),
        ),
        LimitError,
    ),
    "one name twice": (
        lambda: _with(*[_function("First", node("Neg", ["a"], ["b"]))] * 2),
        DecodeError,
    ),
    "a function that is not there": (
        lambda: _with(_function("First", *_calling("Nowhere"))),
        FederationError,
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_functions_are_refused(case: str) -> None:
    make, error = HOSTILE[case]

    with pytest.raises(error):
        compile_model(make(), loss="mse")


def _defined(
    kind: str, inputs: Sequence[str], opset: int = 23, **attributes: Attribute
) -> onnx.ModelProto:
    tensors = {"w": weight(RNG, 8, 8), "g": weight(RNG, 8)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        node(kind, inputs, ["out"], "defined", **attributes),
    ]
    shape: list[str | int | None] = ["n", 4, 8]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


DEFINED: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "root mean square": lambda: _defined("RMSNormalization", ["h", "g"]),
    "mean and variance": lambda: _defined(
        "MeanVarianceNormalization", ["h"], 18, axes=[2]
    ),
    "attention": lambda: _defined(
        "Attention", ["h", "x", "h"], q_num_heads=2, kv_num_heads=2
    ),
    "attention to what came before": lambda: _defined(
        "Attention", ["h", "x", "h"], q_num_heads=2, kv_num_heads=2, is_causal=1
    ),
}


@pytest.mark.parametrize("case", DEFINED)
def test_operator_that_onnx_defines_is_written_out(case: str) -> None:
    model = DEFINED[case]()
    bundle = compile_model(model, loss="mse")
    x = RNG.standard_normal((5, 4, 8)).astype(np.float32)

    session = onnxruntime.InferenceSession(bundle.standalone(INFER))
    (found,) = session.run(None, {"theta": bundle.theta, "x": x})
    reference = onnxruntime.InferenceSession(model.SerializeToString())

    np.testing.assert_allclose(found, reference.run(None, {"x": x})[0], atol=1e-5)
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


def test_operator_without_rule_or_definition_is_refused_by_name() -> None:
    with pytest.raises(CompileError, match="defined"):
        compile_model(_defined("NonZero", ["h"]), loss="mse")


def test_models_without_functions_stay_as_they_are() -> None:
    model = _defined("Tanh", ["h"])

    assert [item.op_type for item in load(model).graph.node] == ["MatMul", "Tanh"]
