"""Steps of scikit-learn's pipelines give the same in standard operators."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from starling.compiler import CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.reader.model_file import load
from starling.protocol.errors import FederationError
from tests.unit.compiler.rewrite.frontends.sklearn_steps import (
    COLUMNS,
    Arrays,
    Nodes,
    examples,
    leaf_weights,
    ml_node,
    output_of,
    pipeline_model,
    two_trees,
)


def _whole(*nodes: onnx.NodeProto) -> Nodes:
    """Nodes on the last column as whole numbers `c`, whose result `r` becomes real."""
    return [
        *ml_node("ArrayFeatureExtractor", ["X", "last"], ["column"]),
        helper.make_node("Cast", ["column"], ["c"], to=TensorProto.INT64),
        *nodes,
        helper.make_node("Cast", ["r"], ["f"], to=TensorProto.FLOAT),
    ]


_LAST = {"last": np.array([3], np.int64)}
STEPS: Mapping[str, tuple[Callable[[], Nodes], Arrays, int]] = {
    "columns picked": (
        lambda: ml_node("ArrayFeatureExtractor", ["X", "at"], ["f"]),
        {"at": np.array([[3, 0]], np.int64)},
        2,
    ),
    "columns joined": (
        lambda: ml_node("FeatureVectorizer", ["X", "X"], ["f"], inputdimensions=[4, 4]),
        {},
        8,
    ),
    "binarised": (lambda: ml_node("Binarizer", ["X"], ["f"], threshold=0.25), {}, 4),
    "scaled": (
        lambda: ml_node(
            "Scaler", ["X"], ["f"],
            offset=[1.0, 2.0, 3.0, 0.5], scale=[2.0] * 4,
        ),
        {},
        4,
    ),
    "norm of sums": (lambda: ml_node("Normalizer", ["X"], ["f"], norm="L1"), {}, 4),
    "norm of squares": (lambda: ml_node("Normalizer", ["X"], ["f"], norm="L2"), {}, 4),
    "norm of the largest": (
        lambda: ml_node("Normalizer", ["X"], ["f"], norm="MAX"), {}, 4,
    ),
    "filled in": (
        lambda: ml_node(
            "Imputer", ["X"], ["f"],
            imputed_value_floats=[5.0, 6.0, 7.0, 8.0], replaced_value_float=0.0,
        ),
        {},
        4,
    ),
    "filled in where no number is": (
        lambda: [
            helper.make_node("Log", ["X"], ["logarithm"]),
            *ml_node(
                "Imputer", ["logarithm"], ["g"],
                imputed_value_floats=[2.0], replaced_value_float=float("nan"),
            ),
            *ml_node(
                "Imputer", ["g"], ["f"],
                imputed_value_floats=[3.0], replaced_value_float=float("-inf"),
            ),
        ],
        {},
        4,
    ),
    "whole numbers filled in": (
        lambda: _whole(
            *ml_node(
                "Imputer", ["c"], ["r"],
                imputed_value_int64s=[9], replaced_value_int64=-1,
            )
        ),
        _LAST,
        1,
    ),
    "categories": (
        lambda: [
            *_whole(
                *ml_node("OneHotEncoder", ["c"], ["r"], cats_int64s=[0, 2, -1], zeros=1)
            )[:3],
            helper.make_node("Squeeze", ["r", "one"], ["f"]),
        ],
        {**_LAST, "one": np.array([1], np.int64)},
        3,
    ),
    "numbers for numbers": (
        lambda: _whole(
            *ml_node(
                "LabelEncoder", ["c"], ["r"],
                keys_int64s=[-1, 0, 2], values_int64s=[7, -3, 5], default_int64=11,
            )
        ),
        _LAST,
        1,
    ),
    "real numbers for real ones": (
        lambda: ml_node(
            "LabelEncoder", ["X"], ["f"],
            keys_floats=[0.0, 1.0, 2.0], values_floats=[0.5, 1.5, -2.5],
            default_float=4.0,
        ),
        {},
        4,
    ),
    "distances": (lambda: [_scan()], {"rows": np.eye(3, 4, dtype=np.float32)}, 3),
}  # fmt: skip  # a table


def _scan() -> onnx.NodeProto:
    info, real = helper.make_tensor_value_info, TensorProto.FLOAT
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["state"], ["same"]),
            helper.make_node("Sub", ["state", "row"], ["apart"]),
            helper.make_node("ReduceSumSquare", ["apart", "a"], ["s"], keepdims=0),
            helper.make_node("Sqrt", ["s"], ["distance"]),
        ],
        "step",
        [info("state", real, [3, 4]), info("row", real, [4])],
        [info("same", real, [3, 4]), info("distance", real, [3])],
        [numpy_helper.from_array(np.array([1], np.int64), "a")],
    )  # fmt: skip  # a table
    return helper.make_node(
        "Scan", ["rows", "X"], ["end", "f"], "scan", body=body, num_scan_inputs=1
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", STEPS)
def test_step_gives_what_the_operator_gives(case: str) -> None:
    nodes, arrays, width = STEPS[case]
    model = pipeline_model(nodes(), arrays, "f", width)

    found = ReferenceEvaluator(load(model)).run(None, {"X": examples()})

    assert isinstance(found, list)
    np.testing.assert_allclose(
        found[0], output_of(model, {"X": examples()}), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("norm", ["L1", "L2", "MAX"])
@pytest.mark.parametrize("opset", [12, 15])
def test_norm_is_written_in_the_operators_of_the_file(norm: str, opset: int) -> None:
    model = pipeline_model(
        ml_node("Normalizer", ["X"], ["f"], norm=norm), {}, "f", COLUMNS
    )
    model.opset_import[0].version = opset

    found = ReferenceEvaluator(load(model)).run(None, {"X": examples()})

    assert isinstance(found, list)
    np.testing.assert_allclose(found[0], output_of(model, {"X": examples()}), rtol=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", STEPS)
def test_linear_layer_behind_a_step_is_trained_alone(case: str) -> None:
    nodes, arrays, width = STEPS[case]
    weights = {
        "coefficient": np.full((width, 2), 0.25, np.float32),
        "intercepts": np.array([0.5, -0.5], np.float32),
    }
    head = [
        helper.make_node("MatMul", ["f", "coefficient"], ["m"]),
        helper.make_node("Add", ["m", "intercepts"], ["y"]),
    ]
    model = pipeline_model([*nodes(), *head], {**arrays, **weights}, "y", 2)
    model.producer_name = "skl2onnx"

    bundle = compile_model(model, loss="mse")

    assert [item.name for item in bundle.manifest.parameters if item.trainable] == [
        "coefficient",
        "intercepts",
    ]
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


REFUSED: Mapping[str, tuple[Callable[[], Nodes], str]] = {
    "categories of text": (
        lambda: ml_node("OneHotEncoder", ["X"], ["f"], cats_strings=["a", "b"]),
        "whole numbers",
    ),
    "labels of text": (
        lambda: ml_node(
            "LabelEncoder", ["X"], ["f"], keys_strings=["a"], values_floats=[1.0]
        ),
        "whole numbers",
    ),
    "a tree that leads nowhere": (
        lambda: ml_node(
            "TreeEnsembleRegressor", ["X"], ["f"],
            **{**two_trees(), "nodes_truenodeids": [9] * 10},
            **leaf_weights("target", 1),
        ),
        "not there",
    ),
    "a tree that is a circle": (
        lambda: ml_node(
            "TreeEnsembleRegressor", ["X"], ["f"],
            **{**two_trees(), "nodes_truenodeids": [0] * 10},
            **leaf_weights("target", 1),
        ),
        "levels",
    ),
    "probabilities of scores": (
        lambda: ml_node(
            "SVMClassifier", ["X"], ["label", "f"], kernel_type="LINEAR",
            coefficients=[1.0] * 4, rho=[0.0], classlabels_ints=[0, 1], prob_a=[1.0],
            prob_b=[0.0],
        ),
        "probabilities",
    ),
}  # fmt: skip  # a table


@pytest.mark.parametrize("case", REFUSED)
def test_step_that_cannot_be_written_is_refused_with_a_reason(case: str) -> None:
    nodes, match = REFUSED[case]

    with pytest.raises(CompileError, match=match):
        load(pipeline_model(nodes(), {}, "f", 1))


MALFORMED: Mapping[str, Callable[[], Nodes]] = {
    "no table": lambda: ml_node("TreeEnsembleRegressor", ["X"], ["f"], n_targets=1),
    "a table of terabytes": lambda: ml_node(
        "TreeEnsembleRegressor", ["X"], ["f"],
        **two_trees(), **leaf_weights("target", 1), n_targets=1 << 40,
    ),
    "no input": lambda: ml_node("Binarizer", [], ["f"]),
    "more factors than vectors": lambda: ml_node(
        "SVMRegressor", ["X"], ["f"], coefficients=[1.0], rho=[0.0],
        support_vectors=[1.0] * 7, n_supports=2,
    ),
    "keys without values": lambda: ml_node(
        "LabelEncoder", ["X"], ["f"],
        keys_floats=[1.0, 2.0, 3.0], values_floats=[1.0] * 2,
    ),
}  # fmt: skip  # a table


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_step_is_refused_without_a_traceback(case: str) -> None:
    with pytest.raises(FederationError):
        compile_model(pipeline_model(MALFORMED[case](), {}, "f", 1), loss="mse")


def test_labels_beside_scores_are_left_out() -> None:
    weights = {"w": np.eye(4, 3, dtype=np.float32) + 0.5}
    nodes = [
        helper.make_node("Gemm", ["X", "w"], ["f"]),
        helper.make_node("ArgMax", ["f"], ["label"], axis=1),
    ]
    model = pipeline_model(nodes, weights, "f", 3)
    label = helper.make_tensor_value_info("label", TensorProto.INT64, [None, 1])
    model.graph.output.append(label)

    assert compile_model(model, loss="cross-entropy").manifest.output.shape == (3,)
