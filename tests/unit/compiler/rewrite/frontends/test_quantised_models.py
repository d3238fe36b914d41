"""Quantised models in real numbers give what they gave, and are trained."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from starling.compiler import CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.reader.model_file import load
from starling.protocol.model.training_bundle import INFER
from tests.unit.compiler.small_models import weight

Nodes = Sequence[onnx.NodeProto]
Arrays = dict[str, NDArray[np.generic]]
RNG = np.random.default_rng(71)


def _node(kind: str, inputs: list[str], output: str, **more: Any) -> onnx.NodeProto:  # noqa: ANN401 - as ONNX takes them
    return helper.make_node(kind, inputs, [output], output, **more)


def _small(*shape: int) -> NDArray[np.int8]:
    """Values that no processor's sums of products saturate with."""
    return np.random.default_rng(72).integers(-60, 60, shape).astype(np.int8)


_SCALES: Arrays = {
    "xs": np.array(0.02, np.float32),
    "xz": np.array(120, np.uint8),
    "ws": np.array(0.01, np.float32),
    "wz": np.array(3, np.int8),
    "ys": np.array(0.03, np.float32),
    "yz": np.array(110, np.uint8),
}


def _weights_alone() -> tuple[Nodes, Arrays]:
    """Weights of eight bits, one of them read twice, under real activations."""
    arrays: Arrays = {
        "w": _small(4, 4),
        "cs": np.array([0.01, 0.02, 0.03, 0.04], np.float32),
        "cz": np.array([1, -2, 0, 5], np.int8),
        "b": np.array([100, -50, 20, 0], np.int32),
    }
    nodes = [
        _node("DequantizeLinear", ["w", "cs", "cz"], "first", axis=0),
        _node("DequantizeLinear", ["w", "cs", "cz"], "again", axis=0),
        _node("DequantizeLinear", ["b", "ws"], "bias"),
        _node("Gemm", ["x", "first", "bias"], "h"),
        _node("Tanh", ["h"], "t"),
        _node("MatMul", ["t", "again"], "out"),
    ]
    return nodes, arrays


def _blocks() -> tuple[Nodes, Arrays]:
    """Scales and zero points for each two rows of a weight."""
    arrays: Arrays = {
        "w": _small(4, 4),
        "cs": np.array(
            [[0.01, 0.02, 0.03, 0.04], [0.02, 0.01, 0.05, 0.02]], np.float32
        ),
        "cz": np.array([[1, -2, 0, 5], [0, 3, -1, 2]], np.int8),
    }
    nodes = [
        _node("DequantizeLinear", ["w", "cs", "cz"], "real", axis=0, block_size=2),
        _node("MatMul", ["x", "real"], "out"),
    ]
    return nodes, arrays


def _eighth_floats() -> tuple[Nodes, Arrays]:
    """Weights of eight-bit floats, stored the other way round, under a half scale."""
    eighth = weight(RNG, 4, 4).astype(ml_dtypes.float8_e4m3fn)
    arrays: Arrays = {"w": eighth, "hs": np.array(0.5, np.float16)}
    nodes = [
        _node("Transpose", ["w"], "turned"),
        _node("Cast", ["hs"], "s", to=TensorProto.FLOAT),
        _node("DequantizeLinear", ["turned", "s"], "real"),
        _node("MatMul", ["x", "real"], "out"),
    ]
    return nodes, arrays


def _fake_quantisation() -> tuple[Nodes, Arrays]:
    """Rounded activations and a rounded real weight, as in training for few bits."""
    arrays: Arrays = {"w": weight(RNG, 4, 4), "s": np.array(0.05, np.float32)}
    nodes = [
        _node("QuantizeLinear", ["x", "xs", "xz"], "q"),
        _node("DequantizeLinear", ["q", "xs", "xz"], "d"),
        _node("QuantizeLinear", ["w", "s", "wz"], "wq"),
        _node("DequantizeLinear", ["wq", "s", "wz"], "wd"),
        _node("MatMul", ["d", "wd"], "out"),
    ]
    return nodes, arrays


def _convolution() -> tuple[Nodes, Arrays]:
    arrays: Arrays = {
        "w": _small(2, 1, 2),
        "cs": np.array([0.01, 0.02], np.float32),
        "cz": np.array([0, 0], np.int8),
        "b": np.array([50, -70], np.int32),
        "shape": np.array([-1, 1, 4], np.int64),
        "flat": np.array([-1, 4], np.int64),
    }
    nodes = [
        _node("QuantizeLinear", ["x", "xs", "xz"], "q"),
        _node("Reshape", ["q", "shape"], "image"),
        _node(
            "QLinearConv", ["image", "xs", "xz", "w", "cs", "cz", "ys", "yz", "b"], "c"
        ),
        _node("MaxPool", ["c"], "p", kernel_shape=[2]),
        _node("Reshape", ["p", "flat"], "f"),
        _node("DequantizeLinear", ["f", "ys", "yz"], "out"),
    ]
    return nodes, arrays


def _products() -> tuple[Nodes, Arrays]:
    arrays: Arrays = {"w": _small(4, 4)}
    first = ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    sides = ["m", "ys", "yz", "q", "xs", "xz", "ys", "yz"]
    nodes = [
        _node("QuantizeLinear", ["x", "xs", "xz"], "q"),
        _node("QLinearMatMul", first, "m"),
        _node("QLinearAdd", sides, "a", domain="com.microsoft"),
        _node("DequantizeLinear", ["a", "ys", "yz"], "out"),
    ]
    return nodes, arrays


def _whole_numbers() -> tuple[Nodes, Arrays]:
    arrays: Arrays = {"w": _small(4, 4), "s": np.array(0.001, np.float32)}
    nodes = [
        _node("QuantizeLinear", ["x", "xs", "xz"], "q"),
        _node("MatMulInteger", ["q", "w", "xz", "wz"], "i"),
        _node("Cast", ["i"], "f", to=TensorProto.FLOAT),
        _node("Mul", ["f", "s"], "out"),
    ]
    return nodes, arrays


MODELS: Mapping[str, tuple[Callable[[], tuple[Nodes, Arrays]], Sequence[str], int]] = {
    "weights alone": (_weights_alone, ["bias", "first"], 20),
    "scales of blocks": (_blocks, ["real"], 16),
    "floats of eight bits": (_eighth_floats, ["real"], 16),
    "fake quantisation": (_fake_quantisation, ["w"], 16),
    "a convolution": (_convolution, ["c.bias", "c.weight"], 6),
    "products and sums": (_products, ["m.weight"], 16),
    "whole numbers": (_whole_numbers, ["i.weight"], 16),
}


def _model(
    nodes: Nodes, arrays: Arrays, kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        list(nodes),
        "small",
        [info("x", kind, ["n", 4])],
        [info("out", TensorProto.FLOAT, ["n", 4])],
        [
            numpy_helper.from_array(value, name)
            for name, value in {**_SCALES, **arrays}.items()
            if name in read
        ],
    )
    blocks = any(a.name == "block_size" for node in nodes for a in node.attribute)
    blocks |= any(value.dtype.itemsize == 1 for value in arrays.values())
    version = 21 if blocks else 18
    opsets = [helper.make_opsetid("", version), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("case", MODELS)
def test_quantised_model_gives_the_same_and_is_trained(case: str) -> None:
    make, names, size = MODELS[case]
    model = _model(*make())
    x = np.random.default_rng(1).standard_normal((9, 4)).astype(np.float32)

    wanted = None if case == "weights alone" else names
    bundle = compile_model(model, loss="mse", train=wanted or ())

    trained = [item.name for item in bundle.manifest.parameters if item.trainable]
    assert sorted(trained) == names
    assert bundle.manifest.dimension == size
    found = _run(bundle.standalone(INFER), {"theta": bundle.theta, "x": x})
    expected = _run(model.SerializeToString(), {"x": x})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


_FACTORS = np.array([0.011, 0.023, 0.031, 0.043], np.float32)
_ZEROS = np.array([1, -20, 0, 50], np.int8)
_ROWS: Arrays = {
    "w": _small(4, 4),
    "cs": _FACTORS,
    "cz": _ZEROS,
    "s": np.array(0.001, np.float32),
    "column": np.array([-1, 4, 1], np.int64),
    "row": np.array([-1, 4], np.int64),
}
_BY_ROWS: Mapping[str, Nodes] = {
    "whole numbers": [
        _node("MatMulInteger", ["w", "t", "cz", "xz"], "m"),
        _node("Cast", ["m"], "f", to=TensorProto.FLOAT),
        _node("Mul", ["f", "s"], "d"),
    ],
    "real numbers": [
        _node("QLinearMatMul", ["w", "cs", "cz", "t", "xs", "xz", "ys", "yz"], "m"),
        _node("DequantizeLinear", ["m", "ys", "yz"], "d"),
    ],
}


@pytest.mark.parametrize("case", _BY_ROWS)
def test_scales_of_a_first_matrix_are_those_of_its_rows(case: str) -> None:
    nodes = [
        _node("QuantizeLinear", ["x", "xs", "xz"], "q"),
        _node("Reshape", ["q", "column"], "t"),
        *_BY_ROWS[case],
        _node("Reshape", ["d", "row"], "out"),
    ]
    model = _model(nodes, _ROWS)
    x = np.random.default_rng(4).standard_normal((9, 4)).astype(np.float32)

    bundle = compile_model(model, loss="mse")

    # By hand: ONNX Runtime takes a first matrix with one zero point alone, and ONNX's
    # evaluator lays several along the columns, which its operators' text does not.
    steps = np.clip(np.rint(x / np.float32(0.02)) + 120, 0, 255) - 120
    whole = (_small(4, 4).astype(np.float64) - _ZEROS[:, None]) @ steps.T
    expected = whole * 0.001
    if case == "real numbers":
        real = whole * _FACTORS[:, None] * 0.02
        expected = 0.03 * (np.clip(np.rint(real / 0.03) + 110, 0, 255) - 110)
    found = _run(bundle.standalone(INFER), {"theta": bundle.theta, "x": x})
    np.testing.assert_allclose(found, expected.T, rtol=1e-4, atol=1e-5)


def test_weight_of_one_scale_is_trained_as_one_along_whatever_axis_it_is_read() -> None:
    nodes = [
        _node("DequantizeLinear", ["w", "ws", "wz"], "first", axis=0),
        _node("DequantizeLinear", ["w", "ws", "wz"], "again", axis=1),
        _node("MatMul", ["x", "first"], "h"),
        _node("Tanh", ["h"], "t"),
        _node("MatMul", ["t", "again"], "out"),
    ]

    bundle = compile_model(_model(nodes, {"w": _small(4, 4)}), loss="mse")

    assert bundle.manifest.dimension == 16


def test_input_of_eight_bits_is_fed_as_real_numbers() -> None:
    weights: Arrays = {"w": weight(RNG, 4, 4)}
    nodes = [
        _node("DequantizeLinear", ["x", "xs", "xz"], "d"),
        _node("MatMul", ["d", "w"], "out"),
    ]
    model = _model(nodes, weights, TensorProto.UINT8)
    x = np.random.default_rng(2).integers(0, 255, (5, 4)).astype(np.uint8)

    bundle = compile_model(model, loss="mse")

    inputs = {"theta": bundle.theta, "x": x.astype(np.float32)}
    expected = _run(model.SerializeToString(), {"x": x})
    np.testing.assert_allclose(
        _run(bundle.standalone(INFER), inputs), expected, rtol=1e-5
    )


def test_probabilities_that_are_rounded_last_are_trained_before_that() -> None:
    weights: Arrays = {"w": weight(RNG, 4, 4), "ps": np.array(1 / 256, np.float32)}
    zero: Arrays = {"pz": np.array(0, np.uint8)}
    nodes = [
        _node("QuantizeLinear", ["x", "xs", "xz"], "q"),
        _node("DequantizeLinear", ["q", "xs", "xz"], "d"),
        _node("MatMul", ["d", "w"], "h"),
        _node("Softmax", ["h"], "p"),
        _node("QuantizeLinear", ["p", "ps", "pz"], "pq"),
        _node("DequantizeLinear", ["pq", "ps", "pz"], "out"),
    ]
    model = _model(nodes, weights | zero)
    x = np.random.default_rng(3).standard_normal((5, 4)).astype(np.float32)

    bundle = compile_model(model, loss="cross-entropy")

    inputs = {"theta": bundle.theta, "x": x}
    exact = _run(bundle.standalone(INFER), inputs)
    np.testing.assert_allclose(
        exact, _run(model.SerializeToString(), {"x": x}), atol=1 / 256
    )
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


REFUSED: Mapping[str, tuple[Nodes, Arrays, str]] = {
    "a range of the whole batch": (
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "range"),
            _node("DequantizeLinear", ["q", "s", "z"], "out"),
        ],
        {},
        "mixes the examples",
    ),
    "a computed scale": (
        [
            _node("Exp", ["xs"], "s"),
            _node("QuantizeLinear", ["x", "s", "xz"], "q"),
            _node("DequantizeLinear", ["q", "s", "xz"], "out"),
        ],
        {},
        "computed scales",
    ),
    "floats of eight bits between layers": (
        [
            _node("QuantizeLinear", ["x", "s", "z"], "q"),
            _node("DequantizeLinear", ["q", "s", "z"], "out"),
        ],
        {"s": np.array(1, np.float32), "z": np.zeros((), ml_dtypes.float8_e5m2)},
        "rounds values to FLOAT8E5M2",
    ),
    "a scale of zero": (
        [
            _node("QuantizeLinear", ["x", "none", "xz"], "q"),
            _node("DequantizeLinear", ["q", "none", "xz"], "out"),
        ],
        {"none": np.array(0, np.float32)},
        "not positive",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_quantisation_is_refused_with_a_reason(case: str) -> None:
    nodes, arrays, match = REFUSED[case]

    with pytest.raises(CompileError, match=match):
        load(_model(nodes, arrays))


def _run(
    model: bytes, inputs: Mapping[str, NDArray[np.generic]]
) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options)
    return np.asarray(session.run(None, dict(inputs))[0])
