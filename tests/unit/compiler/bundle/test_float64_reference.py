"""The float64 operators do what ONNX Runtime does."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from starling.compiler.bundle.float64_reference import Reference
from starling.compiler.ir.graph_writer import IR_VERSION, OPSET, Attribute
from starling.protocol.errors import OperationError
from tests.unit.compiler.small_models import node

RNG = np.random.default_rng(0)
Case = tuple[str, Sequence[tuple[int, ...]], Mapping[str, Attribute]]

CASES: dict[str, Case] = {
    "convolution": ("Conv", [(2, 3, 6, 5), (4, 3, 3, 2), (4,)], {}),
    "convolution, all its attributes": (
        "Conv",
        [(2, 4, 9, 8), (6, 2, 3, 2)],
        {"group": 2, "strides": [2, 1], "dilations": [2, 3], "pads": [1, 0, 2, 1]},
    ),
    "convolution, automatic padding": (
        "Conv",
        [(2, 2, 7, 6), (3, 2, 3, 2)],
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ),
    "convolution, automatic padding before": (
        "Conv",
        [(2, 2, 7), (3, 2, 4)],
        {"auto_pad": "SAME_LOWER", "strides": [2]},
    ),
    "convolution, three axes": ("Conv", [(1, 2, 4, 5, 4), (3, 2, 2, 3, 1)], {}),
    "transposed convolution": (
        "ConvTranspose",
        [(2, 4, 5, 3), (4, 3, 3, 2), (3,)],
        {"strides": [2, 1], "pads": [1, 0, 0, 1], "output_padding": [1, 0]},
    ),
    "transposed convolution in groups": (
        "ConvTranspose",
        [(2, 8, 6), (8, 2, 4)],
        {"group": 2, "strides": [2], "dilations": [2], "pads": [1, 2]},
    ),
    "pooling": (
        "MaxPool",
        [(2, 3, 7, 6)],
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
    ),
    "pooling, rounded up": (
        "MaxPool",
        [(2, 3, 7, 6)],
        {"kernel_shape": [2, 3], "strides": [2, 3], "ceil_mode": 1},
    ),
    "pooling, rounded up within padding": (
        "MaxPool",
        [(1, 1, 5)],
        {"kernel_shape": [2], "strides": [3], "pads": [1, 1], "ceil_mode": 1},
    ),
    "pooling, dilated": (
        "MaxPool",
        [(2, 1, 9)],
        {"kernel_shape": [3], "dilations": [2]},
    ),
    "largest of a sequence": ("GlobalMaxPool", [(2, 3, 5)], {}),
    "logarithm of a softmax": ("LogSoftmax", [(4, 3)], {"axis": 1}),
    "error function": ("Erf", [(4, 3)], {}),
}


def _graph(kind: str, arrays: Sequence[NDArray[np.generic]], more: object) -> bytes:
    assert isinstance(more, Mapping)
    names = [f"in{index}" for index in range(len(arrays))]
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in zip(names, arrays, strict=True)
    ]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [node(kind, names, ["out"], "", **more)], "one", inputs, [out]
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    data: bytes = model.SerializeToString()
    return data


def _agree(kind: str, arrays: Sequence[NDArray[np.generic]], more: object) -> None:
    graph = _graph(kind, arrays, more)
    feeds = {f"in{index}": array for index, array in enumerate(arrays)}

    (expected,) = onnxruntime.InferenceSession(graph).run(None, feeds)
    found = Reference(graph).run("out", feeds)

    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_operator_agrees_with_the_runtime(case: str) -> None:
    kind, shapes, more = CASES[case]
    arrays = [RNG.standard_normal(shape).astype(np.float32) for shape in shapes]

    _agree(kind, arrays, more)


def test_places_of_largest_values_agree_with_the_runtime() -> None:
    x = RNG.standard_normal((2, 3, 7, 6)).astype(np.float32)
    more = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}
    graph = onnx.load_model_from_string(_graph("MaxPool", [x], more))
    graph.graph.node[0].output.append("places")
    info = helper.make_tensor_value_info("places", TensorProto.INT64, None)
    graph.graph.output.append(info)
    data = graph.SerializeToString()

    expected = onnxruntime.InferenceSession(data).run(["places"], {"in0": x})[0]

    np.testing.assert_array_equal(Reference(data).run("places", {"in0": x}), expected)


@pytest.mark.parametrize("reduction", ["add", "none"])
def test_scattered_values_agree_with_the_runtime(reduction: str) -> None:
    places = np.array([[0, 2, 1], [3, 0, 2]]) if reduction == "none" else None
    if places is None:
        places = RNG.integers(-4, 4, (2, 3))
    arrays: list[NDArray[np.generic]] = [
        RNG.standard_normal((4, 3)).astype(np.float32),
        places,
        RNG.standard_normal((2, 3)).astype(np.float32),
    ]

    _agree("ScatterElements", arrays, {"axis": 0, "reduction": reduction})


def test_operator_that_cannot_compute_its_node_is_refused_in_one_line() -> None:
    arrays = [RNG.standard_normal(shape).astype(np.float32) for shape in ((2, 3), (3,))]
    reference = Reference(_graph("MatMul", arrays, {}))
    feeds = {"in0": arrays[0], "in1": np.ones(4, np.float32)}

    with pytest.raises(OperationError, match="cannot compute the model in float64"):
        reference.run("out", feeds)
