"""Models of other toolkits: what skl2onnx and tf2onnx write becomes standard nodes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from starling.compiler import compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.errors import CompileError
from starling.compiler.reader.model_file import load

_ML = "ai.onnx.ml"
_PROBABILITIES = ("probabilities", TensorProto.FLOAT)
_LABEL = ("label", TensorProto.INT64)
Arrays = dict[str, NDArray[np.generic]]


def _model(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[tuple[str, int]],
    weights: Mapping[str, NDArray[np.generic]] | None = None,
) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "learned",
        [info("X", TensorProto.FLOAT, [None, 4])],
        [info(name, kind, None) for name, kind in outputs],
        [numpy_helper.from_array(v, k) for k, v in (weights or {}).items()],
    )
    for output in graph.output:
        output.type.tensor_type.shape.dim.add()
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_ML, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _classifier(classes: int, how: str) -> onnx.NodeProto:
    rng = np.random.default_rng(classes)
    table, bias = rng.standard_normal((classes, 4)), rng.standard_normal(classes)
    if classes == 2:
        # Two classes are written as one score and its negative.
        table[0], bias[0] = -table[1], -bias[1]
    return helper.make_node(
        "LinearClassifier",
        ["X"],
        ["label", "probabilities"],
        domain=_ML,
        coefficients=table.reshape(-1).tolist(),
        intercepts=bias.tolist(),
        classlabels_ints=list(range(classes)),
        post_transform=how,
    )


def _inferred(proto: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    results = ReferenceEvaluator(load(proto)).run(None, {"X": x})
    assert isinstance(results, list)
    assert len(results) == 1
    return np.asarray(results[0])


@pytest.mark.parametrize(
    ("classes", "how", "scores"),
    [(2, "LOGISTIC", 1), (3, "SOFTMAX", 3), (3, "NONE", 3)],
)
def test_linear_classifier_gives_its_probabilities(
    classes: int, how: str, scores: int
) -> None:
    proto = _model([_classifier(classes, how)], [_LABEL, _PROBABILITIES])
    x = np.random.default_rng(9).standard_normal((5, 4)).astype(np.float32)
    expected = ReferenceEvaluator(proto).run(None, {"X": x})
    assert isinstance(expected, list)

    np.testing.assert_allclose(_inferred(proto, x), expected[1], rtol=1e-5)
    bundle = compile_model(proto, loss="cross-entropy")
    assert bundle.manifest.dimension == 5 * scores
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


def test_classes_against_the_rest_are_refused() -> None:
    proto = _model([_classifier(3, "LOGISTIC")], [_LABEL, _PROBABILITIES])

    with pytest.raises(CompileError, match="multinomial"):
        load(proto)


def test_pipeline_trains_its_last_step_and_drops_maps_and_labels() -> None:
    made = helper.make_node
    scaler: dict[str, Any] = {"offset": [1.0] * 4, "scale": [0.5] * 4}
    classifier = _classifier(3, "SOFTMAX")
    classifier.input[0] = "scaled"
    nodes = [
        made("Scaler", ["X"], ["scaled"], domain=_ML, **scaler),
        classifier,
        made("Cast", ["label"], ["output_label"], to=TensorProto.INT64),
        made("Normalizer", ["probabilities"], ["normal"], domain=_ML, norm="L1"),
        made("ZipMap", ["normal"], ["map"], domain=_ML, classlabels_int64s=[0, 1, 2]),
    ]
    proto = _model(nodes, [("output_label", TensorProto.INT64), ("map", 0)])
    of_map = proto.graph.output[1].type
    of_map.sequence_type.elem_type.map_type.key_type = TensorProto.INT64
    value = of_map.sequence_type.elem_type.map_type.value_type.tensor_type
    value.elem_type = TensorProto.FLOAT

    bundle = compile_model(proto, loss="cross-entropy")

    assert bundle.manifest.dimension == 15
    assert bundle.manifest.output.shape == (3,)
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


def test_linear_regressor_is_a_linear_layer() -> None:
    node = helper.make_node(
        "LinearRegressor",
        ["X"],
        ["y"],
        domain=_ML,
        coefficients=[1.0, 2.0, 3.0, 4.0],
        intercepts=[0.5],
    )
    bundle = compile_model(_model([node], [("y", TensorProto.FLOAT)]), loss="mse")

    assert bundle.theta.tolist() == [1.0, 2.0, 3.0, 4.0, 0.5]


def test_probability_beside_its_rest_is_the_softmax_of_two_scores() -> None:
    rng = np.random.default_rng(5)
    weights: Arrays = {
        "w": rng.standard_normal((4, 1)).astype(np.float32),
        "unity": np.array([1.0], np.float32),
        "classes": np.array([0, 1], np.int64),
    }
    made = helper.make_node
    nodes = [
        made("MatMul", ["X", "w"], ["z"]),
        made("Sigmoid", ["z"], ["p"]),
        made("Sub", ["unity", "p"], ["q"]),
        made("Concat", ["q", "p"], ["probabilities"], axis=1),
        made("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0),
        made("ArrayFeatureExtractor", ["classes", "best"], ["label"], domain=_ML),
    ]
    proto = _model(nodes, [_LABEL, _PROBABILITIES], weights)
    x = rng.standard_normal((6, 4)).astype(np.float32)
    expected = 1 / (1 + np.exp(-(x @ np.asarray(weights["w"]))))

    np.testing.assert_allclose(_inferred(proto, x)[:, 1:], expected, rtol=1e-5)
    assert compile_model(proto, loss="cross-entropy").manifest.dimension == 4


def test_complement_of_the_error_function_is_written_with_it() -> None:
    weights: Arrays = {"w": np.eye(4, dtype=np.float32)}
    nodes = [
        helper.make_node("MatMul", ["X", "w"], ["h"]),
        helper.make_node("Erfc", ["h"], ["y"]),
    ]
    x = np.array([[0.0, 1.0, -1.0, 0.5]], np.float32)
    proto = _model(nodes, [("y", TensorProto.FLOAT)], weights)

    found = _inferred(proto, x)

    np.testing.assert_allclose(found, [[1.0, 0.1573, 1.8427, 0.4795]], atol=1e-4)
