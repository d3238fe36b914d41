"""What is trained, what is not, and what is said of it."""

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from starling.compiler import CompileError, compile_model
from tests.unit.compiler.parameters.survey_models import (
    RNG,
    Tensors,
    is_sound,
    trained_names,
)
from tests.unit.compiler.small_models import build, node, weight


@pytest.mark.parametrize(
    ("start", "named", "trained"),
    [
        pytest.param(0.0, False, False, id="zeros"),
        pytest.param(0.5, False, True, id="learned"),
        pytest.param(0.0, True, True, id="zeros of a module"),
    ],
)
def test_first_state_of_zeros_is_no_weight_unless_a_module_owns_it(
    start: float, *, named: bool, trained: bool
) -> None:
    tensors: Tensors = {
        "w": weight(RNG, 1, 12, 3),
        "r": weight(RNG, 1, 12, 4),
        "h0": np.full((1, 1, 4), start, np.float32),
        "zero": np.array([0], np.int64),
        "v": weight(RNG, 4, 3),
    }
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("GRU", ["t", "w", "r", "", "", "h0"], ["", "last"], hidden_size=4),
        node("Squeeze", ["last", "zero"], ["z"]),
        node("MatMul", ["z", "v"], ["out"]),
    ]
    proto = build(nodes, tensors, (6, 3), (3,))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    proto.producer_name = "pytorch" if named else ""

    bundle = compile_model(proto, loss="mse")

    assert ("h0" in trained_names(bundle)) == trained
    assert trained or any("a first state of zeros" in line for line in bundle.notes)


def test_number_of_a_keras_program_is_none_of_its_variables() -> None:
    names = ("s/d/MatMul/ReadVariableOp:0", "s/mul/y:0")
    nodes = [
        node("MatMul", ["x", names[0]], ["h"]),
        node("Mul", ["h", names[1]], ["out"]),
    ]
    weights = {names[0]: weight(RNG, 4, 3), names[1]: weight(RNG, 3)}

    bundle = compile_model(build(nodes, weights, (4,), (3,)), loss="mse")

    assert trained_names(bundle) == [names[0]]


def test_numbers_in_a_constant_node_that_are_not_trained_are_told() -> None:
    nodes = [
        node("Constant", [], ["b"], value_floats=[0.1, 0.2, 0.3]),
        node("MatMul", ["x", "w"], ["h"]),
        node("Add", ["h", "b"], ["out"]),
    ]
    proto = build(nodes, {"w": weight(RNG, 4, 3)}, (4,), (3,))

    bundle = compile_model(proto, loss="mse")

    assert trained_names(bundle) == ["w"]
    assert any("b (" in line for line in bundle.notes)
    assert trained_names(compile_model(proto, loss="mse", train=["w", "b"])) == [
        "w",
        "b",
    ]


def test_coefficients_of_a_lasso_are_trained() -> None:
    sparse = np.array([[0.0, 1.4, 0.0, 0.0, 0.3]], np.float32)
    nodes = [node("Gemm", ["x", "coef", "intercept"], ["out"], transB=1)]
    tensors = {"coef": sparse, "intercept": np.array([0.2], np.float32)}
    proto = build(nodes, tensors, (5,), (1,))
    proto.producer_name = "skl2onnx"

    bundle = compile_model(proto, loss="mse")

    assert trained_names(bundle) == ["coef", "intercept"]
    assert all(line.startswith("coef: holds many zeros") for line in bundle.notes)


def test_estimator_that_learned_trees_alone_has_no_weights() -> None:
    nodes = [node("Tanh", ["x"], ["t"]), node("Sub", ["half", "t"], ["out"])]
    proto = build(nodes, {"half": np.array([0.5], np.float32)}, (4,), (4,))
    proto.producer_name = "skl2onnx"

    with pytest.raises(CompileError, match="no weights"):
        compile_model(proto, loss="mse")


def test_bias_whose_numbers_stand_in_a_row_is_trained() -> None:
    weights: Tensors = {
        "w": weight(RNG, 4, 8),
        "b": np.linspace(-1, 1, 8, dtype=np.float32),
    }
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["out"])]

    assert trained_names(
        compile_model(build(nodes, weights, (4,), (8,)), loss="mse")
    ) == [
        "w",
        "b",
    ]


def test_length_of_zeros_has_the_slope_zero() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Sub", ["h", "h"], ["d"]),
        node("Mul", ["d", "h"], ["e"]),
        node("ReduceL2", ["e"], ["l"], axes=[1], keepdims=1),
        node("Add", ["h", "l"], ["out"]),
    ]
    proto = build(nodes, {"w": weight(RNG, 4, 3)}, (4,), (3,))

    assert is_sound(compile_model(proto, loss="mse"))


def test_bias_of_fresh_forget_gates_is_trained() -> None:
    bias = np.zeros((1, 32), np.float32)
    bias[0, 8:12] = 1
    weights: Tensors = {
        "w": weight(RNG, 1, 16, 3),
        "r": weight(RNG, 1, 16, 4),
        "b": bias,
        "first": np.array([0], np.int64),
    }
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("LSTM", ["t", "w", "r", "b"], ["all", "last"], hidden_size=4),
        node("Squeeze", ["last", "first"], ["out"]),
    ]

    bundle = compile_model(build(nodes, weights, (6, 3), (4,)), loss="mse")

    assert {*trained_names(bundle)} == {"w", "r", "b"}


@pytest.mark.parametrize("turned", [True, False])
def test_cosines_and_sines_of_the_same_angles_are_constants(*, turned: bool) -> None:
    angles = RNG.random((3, 4)).astype(np.float32)
    tensors = {
        "c": np.cos(angles),
        "s": np.sin(angles if turned else angles + 0.1),
        "gain": np.ones((3, 4), np.float32),
        "offset": np.zeros((3, 4), np.float32),
        "w": weight(RNG, 4, 4),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["q"]),
        node("Mul", ["q", "c"], ["a"]),
        node("Mul", ["q", "s"], ["b"]),
        node("Add", ["a", "b"], ["r"]),
        node("Mul", ["r", "gain"], ["g"]),
        node("Add", ["g", "offset"], ["out"]),
    ]

    bundle = compile_model(build(nodes, tensors, (3, 4), (3, 4)), loss="mse")

    kept = [] if turned else ["c", "s"]
    assert trained_names(bundle) == [*kept, "gain", "offset", "w"]


_KINDS = {
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "bfloat16": TensorProto.BFLOAT16,
    "float8e4m3fn": TensorProto.FLOAT8E4M3FN,
    "float8e4m3fnuz": TensorProto.FLOAT8E4M3FNUZ,
    "float8e5m2": TensorProto.FLOAT8E5M2,
    "float8e5m2fnuz": TensorProto.FLOAT8E5M2FNUZ,
    "float4e2m1": TensorProto.FLOAT4E2M1,
}


@pytest.mark.parametrize("kind", _KINDS)
def test_model_of_another_precision_is_trained_in_float32(kind: str) -> None:
    tensors = [
        helper.make_tensor(name, _KINDS[kind], shape, values.reshape(-1).tolist())
        for name, shape, values in (
            ("w", (4, 3), weight(RNG, 4, 3)),
            ("b", (3,), weight(RNG, 3)),
        )
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            node("Cast", ["x"], ["c"], to=_KINDS[kind]),
            node("Gemm", ["c", "w", "b"], ["out"]),
        ],
        "small",
        [info("x", _KINDS[kind], ["n", 4])],
        [info("out", _KINDS[kind], ["n", 3])],
        tensors,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

    bundle = compile_model(proto, loss="mse")

    assert trained_names(bundle) == ["w", "b"]
    assert any("float32" in line for line in bundle.notes)
    assert is_sound(bundle)


@pytest.mark.parametrize(
    ("row", "width", "out"),
    [((4,), 4, ()), ((3, 4), 4, (3,))],
    ids=["a vector", "a sequence"],
)
def test_vector_as_a_factor_is_trained(
    row: tuple[int, ...], width: int, out: tuple[int, ...]
) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["out"])]
    weights = {"w": weight(RNG, width), "b": weight(RNG, 1)}

    bundle = compile_model(build(nodes, weights, row, out), loss="mse")

    assert trained_names(bundle) == ["w", "b"]
    assert is_sound(bundle)


def test_vector_from_the_left_is_trained() -> None:
    nodes = [node("MatMul", ["v", "x"], ["h"]), node("Tanh", ["h"], ["out"])]
    proto = build(nodes, {"v": weight(RNG, 3)}, (3, 4), (4,))

    bundle = compile_model(proto, loss="mse")

    assert trained_names(bundle) == ["v"]
    assert is_sound(bundle)


def _behind(
    nodes: list[onnx.NodeProto], tensors: Mapping[str, NDArray[np.generic]]
) -> onnx.ModelProto:
    """A layer whose weight `k` (5, 4) is computed, before another one."""
    layers = [
        node("Gemm", ["x", "k"], ["h"], transB=1),
        node("Tanh", ["h"], ["t"]),
        node("MatMul", ["t", "head"], ["out"]),
    ]
    return build([*nodes, *layers], {**tensors, "head": weight(RNG, 5, 3)}, (4,), (3,))


BEHIND: dict[str, tuple[list[onnx.NodeProto], Tensors]] = {
    "exponential": ([node("Exp", ["w"], ["k"])], {"w": weight(RNG, 5, 4)}),
    "weight norm": (
        [
            node("ReduceL2", ["v"], ["r"], axes=[1], keepdims=1),
            node("Div", ["v", "r"], ["d"]),
            node("Mul", ["g", "d"], ["k"]),
        ],
        {"v": weight(RNG, 5, 4), "g": 1 + RNG.random((5, 1), np.float32)},
    ),
    "low rank": (
        [node("MatMul", ["b", "a"], ["p"]), node("Add", ["w", "p"], ["k"])],
        {"w": weight(RNG, 5, 4), "b": weight(RNG, 5, 2), "a": weight(RNG, 2, 4)},
    ),
    "standardised": (
        [
            node("ReduceMean", ["w"], ["m"], axes=[1], keepdims=1),
            node("Sub", ["w", "m"], ["c"]),
            node("Mul", ["c", "c"], ["q"]),
            node("ReduceMean", ["q"], ["v"], axes=[1], keepdims=1),
            node("Sqrt", ["v"], ["s"]),
            node("Div", ["c", "s"], ["k"]),
        ],
        {"w": weight(RNG, 5, 4)},
    ),
}


@pytest.mark.parametrize("case", BEHIND)
def test_weight_behind_functions_is_trained_through_them(case: str) -> None:
    nodes, tensors = BEHIND[case]

    bundle = compile_model(_behind(nodes, tensors), loss="cross-entropy")

    assert {*trained_names(bundle)} == {*tensors, "head"}
    assert is_sound(bundle)


def test_estimates_of_a_spectral_norm_stay_as_they_are() -> None:
    tensors: Tensors = {
        "0.weight_orig": weight(RNG, 5, 4),
        "0.weight_u": weight(RNG, 5),
        "0.weight_v": weight(RNG, 4),
    }
    nodes = [
        node("Identity", ["0.weight_orig"], ["onnx::MatMul_24"]),
        node("MatMul", ["onnx::MatMul_24", "0.weight_v"], ["r"]),
        node("MatMul", ["0.weight_u", "r"], ["s"]),
        node("Div", ["0.weight_orig", "s"], ["k"]),
    ]
    proto = _behind(nodes, tensors)
    proto.producer_name = "pytorch"

    bundle = compile_model(proto, loss="cross-entropy")

    assert {*trained_names(bundle)} == {"0.weight_orig", "head"}
    assert is_sound(bundle)


def test_mask_of_minus_infinity_is_a_constant() -> None:
    mask = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
    nodes = [
        node("MatMul", ["x", "w"], ["q"]),
        node("Transpose", ["q"], ["k"], perm=[0, 2, 1]),
        node("MatMul", ["q", "k"], ["s"]),
        node("Add", ["s", "mask"], ["t"]),
        node("Softmax", ["t"], ["p"], axis=-1),
        node("MatMul", ["p", "q"], ["out"]),
    ]
    proto = build(nodes, {"w": weight(RNG, 4, 5), "mask": mask}, (3, 4), (3, 5))

    bundle = compile_model(proto, loss="mse")

    assert trained_names(bundle) == ["w"]
    assert is_sound(bundle)
