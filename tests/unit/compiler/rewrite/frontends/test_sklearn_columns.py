"""Steps of scikit-learn's pipelines give the same in standard operators."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from starling.compiler import CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.reader.model_file import load
from starling.protocol.errors import FederationError
from starling.protocol.model.training_bundle import INFER

_ML = "ai.onnx.ml"
_COLUMNS = 4
Nodes = Sequence[onnx.NodeProto]
Arrays = Mapping[str, NDArray[np.generic]]


def _ml(kind: str, inputs: list[str], outputs: list[str], **numbers: Any) -> Nodes:  # noqa: ANN401 - as ONNX takes them
    return [helper.make_node(kind, inputs, outputs, domain=_ML, **numbers)]


def _model(nodes: Nodes, arrays: Arrays, output: str, width: int) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "pipeline",
        [info("X", TensorProto.FLOAT, [None, _COLUMNS])],
        [info(output, TensorProto.FLOAT, [None, width])],
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(_ML, 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _x() -> NDArray[np.float32]:
    """Two real columns, one with a zero row, and two of categories."""
    x = np.random.default_rng(3).standard_normal((12, _COLUMNS)).astype(np.float32)
    x[:, 2] = np.arange(12) % 3
    x[:, 3] = np.arange(12) % 4 - 1
    x[5] = 0.0
    return x


def _whole(*nodes: onnx.NodeProto) -> Nodes:
    """Nodes on the last column as whole numbers `c`, whose result `r` becomes real."""
    return [
        *_ml("ArrayFeatureExtractor", ["X", "last"], ["column"]),
        helper.make_node("Cast", ["column"], ["c"], to=TensorProto.INT64),
        *nodes,
        helper.make_node("Cast", ["r"], ["f"], to=TensorProto.FLOAT),
    ]


_LAST = {"last": np.array([3], np.int64)}
STEPS: Mapping[str, tuple[Callable[[], Nodes], Arrays, int]] = {
    "columns picked": (
        lambda: _ml("ArrayFeatureExtractor", ["X", "at"], ["f"]),
        {"at": np.array([[3, 0]], np.int64)},
        2,
    ),
    "columns joined": (
        lambda: _ml("FeatureVectorizer", ["X", "X"], ["f"], inputdimensions=[4, 4]),
        {},
        8,
    ),
    "binarised": (lambda: _ml("Binarizer", ["X"], ["f"], threshold=0.25), {}, 4),
    "scaled": (
        lambda: _ml(
            "Scaler", ["X"], ["f"],
            offset=[1.0, 2.0, 3.0, 0.5], scale=[2.0] * 4,
        ),
        {},
        4,
    ),
    "norm of sums": (lambda: _ml("Normalizer", ["X"], ["f"], norm="L1"), {}, 4),
    "norm of squares": (lambda: _ml("Normalizer", ["X"], ["f"], norm="L2"), {}, 4),
    "norm of the largest": (lambda: _ml("Normalizer", ["X"], ["f"], norm="MAX"), {}, 4),
    "filled in": (
        lambda: _ml(
            "Imputer", ["X"], ["f"],
            imputed_value_floats=[5.0, 6.0, 7.0, 8.0], replaced_value_float=0.0,
        ),
        {},
        4,
    ),
    "filled in where no number is": (
        lambda: [
            helper.make_node("Log", ["X"], ["logarithm"]),
            *_ml(
                "Imputer", ["logarithm"], ["g"],
                imputed_value_floats=[2.0], replaced_value_float=float("nan"),
            ),
            *_ml(
                "Imputer", ["g"], ["f"],
                imputed_value_floats=[3.0], replaced_value_float=float("-inf"),
            ),
        ],
        {},
        4,
    ),
    "whole numbers filled in": (
        lambda: _whole(
            *_ml(
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
                *_ml("OneHotEncoder", ["c"], ["r"], cats_int64s=[0, 2, -1], zeros=1)
            )[:3],
            helper.make_node("Squeeze", ["r", "one"], ["f"]),
        ],
        {**_LAST, "one": np.array([1], np.int64)},
        3,
    ),
    "numbers for numbers": (
        lambda: _whole(
            *_ml(
                "LabelEncoder", ["c"], ["r"],
                keys_int64s=[-1, 0, 2], values_int64s=[7, -3, 5], default_int64=11,
            )
        ),
        _LAST,
        1,
    ),
    "real numbers for real ones": (
        lambda: _ml(
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
    model = _model(nodes(), arrays, "f", width)

    found = ReferenceEvaluator(load(model)).run(None, {"X": _x()})

    assert isinstance(found, list)
    np.testing.assert_allclose(found[0], _run(model, {"X": _x()}), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["L1", "L2", "MAX"])
@pytest.mark.parametrize("opset", [12, 15])
def test_norm_is_written_in_the_operators_of_the_file(norm: str, opset: int) -> None:
    model = _model(_ml("Normalizer", ["X"], ["f"], norm=norm), {}, "f", _COLUMNS)
    model.opset_import[0].version = opset

    found = ReferenceEvaluator(load(model)).run(None, {"X": _x()})

    assert isinstance(found, list)
    np.testing.assert_allclose(found[0], _run(model, {"X": _x()}), rtol=1e-5)


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
    model = _model([*nodes(), *head], {**arrays, **weights}, "y", 2)
    model.producer_name = "skl2onnx"

    bundle = compile_model(model, loss="mse")

    assert [item.name for item in bundle.manifest.parameters if item.trainable] == [
        "coefficient",
        "intercepts",
    ]
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


def _machine(kind: str, *, classes: int) -> Nodes:
    rng = np.random.default_rng(4)
    count = 6
    numbers: dict[str, Any] = {
        "kernel_type": kind,
        "kernel_params": [0.3, 0.5, 2.0],
        "support_vectors": rng.standard_normal(count * _COLUMNS).tolist(),
    }
    if not classes:
        coefficients = rng.standard_normal(count).tolist()
        numbers |= {"coefficients": coefficients, "rho": [0.7], "n_supports": count}
        return _ml("SVMRegressor", ["X"], ["f"], **numbers)
    pairs = classes * (classes - 1) // 2
    numbers |= {
        "coefficients": rng.standard_normal((classes - 1) * count).tolist(),
        "rho": rng.standard_normal(pairs).tolist(),
        "vectors_per_class": [count // classes] * classes,
        "classlabels_ints": list(range(classes)),
    }
    return _ml("SVMClassifier", ["X"], ["label", "f"], **numbers)


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("kind", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vector_machine_is_a_trained_layer(kind: str, classes: int) -> None:
    model = _model(_machine(kind, classes=classes), {}, "f", max(classes, 1))

    bundle = compile_model(model, loss="mse")

    width = _COLUMNS if kind == "LINEAR" else 6
    scores = {0: 1, 2: 1, 3: 3}[classes]
    assert bundle.manifest.dimension == scores * (width + 1)
    inputs = {"theta": bundle.theta, "X": _x()}
    found = _run(bundle.standalone(INFER), {"theta": inputs["theta"], "x": _x()})
    np.testing.assert_allclose(found, _run(model, {"X": _x()}), rtol=1e-4, atol=1e-5)
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


def _trees(mode: str = "BRANCH_LEQ") -> dict[str, Any]:
    """Two trees: a stump, and one with two more levels on one side."""
    return {
        "nodes_treeids": [0, 0, 0, 1, 1, 1, 1, 1, 1, 1],
        "nodes_nodeids": [0, 1, 2, 0, 1, 2, 3, 4, 5, 6],
        "nodes_featureids": [2, 0, 0, 0, 1, 0, 0, 3, 0, 0],
        "nodes_values": [1.0, 0.0, 0.0, 0.2, -0.1, 0.0, 0.0, 0.0, 0.0, 0.0],
        "nodes_modes": [
            mode, "LEAF", "LEAF", mode, mode, "LEAF", "LEAF", mode, "LEAF", "LEAF",
        ],
        "nodes_truenodeids": [1, 0, 0, 1, 3, 0, 0, 5, 0, 0],
        "nodes_falsenodeids": [2, 0, 0, 2, 4, 0, 0, 6, 0, 0],
    }  # fmt: skip  # a table


def _leaves(side: str, scores: int) -> dict[str, Any]:
    """What each leaf gives to each score."""
    leaves = [(0, 1), (0, 2), (1, 2), (1, 3), (1, 5), (1, 6)]
    rows = [(*leaf, score) for leaf in leaves for score in range(scores)]
    return {
        f"{side}_treeids": [tree for tree, _, _ in rows],
        f"{side}_nodeids": [leaf for _, leaf, _ in rows],
        f"{side}_ids": [score for _, _, score in rows],
        f"{side}_weights": np.linspace(0.1, 0.9, len(rows)).tolist(),
    }


FORESTS: Mapping[str, tuple[str, dict[str, Any], int]] = {
    "sum": ("TreeEnsembleRegressor", {"n_targets": 1}, 1),
    "mean": (
        "TreeEnsembleRegressor",
        {"n_targets": 2, "aggregate_function": "AVERAGE", "base_values": [1.0, 2.0]},
        2,
    ),
    "classes": ("TreeEnsembleClassifier", {"classlabels_int64s": [0, 1, 2]}, 3),
    "softmax": (
        "TreeEnsembleClassifier",
        {"classlabels_int64s": [0, 1, 2], "post_transform": "SOFTMAX"},
        3,
    ),
    "two classes, one score": (
        "TreeEnsembleClassifier",
        {"classlabels_int64s": [0, 1], "post_transform": "LOGISTIC"},
        1,
    ),
    "two classes, one share": (
        "TreeEnsembleClassifier",
        {"classlabels_int64s": [0, 1]},
        1,
    ),
}


@pytest.mark.parametrize("mode", ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"])
@pytest.mark.parametrize("case", FORESTS)
def test_trees_are_a_front_that_is_not_trained(case: str, mode: str) -> None:
    kind, numbers, scores = FORESTS[case]
    classes = "Classifier" in kind
    side, outputs = ("class", ["label", "f"]) if classes else ("target", ["f"])
    width = len(numbers["classlabels_int64s"]) if classes else scores
    nodes = _ml(
        kind, ["X"], outputs, **_trees(mode), **_leaves(side, scores), **numbers
    )
    model = _model(nodes, {}, "f", width)
    expected = _run(model, {"X": _x()})
    head = helper.make_node("Gemm", ["f", "w"], ["y"])
    weights = {"w": np.eye(width, 2, dtype=np.float32) + 0.5}

    found = ReferenceEvaluator(load(model)).run(None, {"X": _x()})
    bundle = compile_model(_model([*nodes, head], weights, "y", 2), loss="mse")

    assert isinstance(found, list)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)
    assert bundle.manifest.dimension == 2 * width
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


REFUSED: Mapping[str, tuple[Callable[[], Nodes], str]] = {
    "categories of text": (
        lambda: _ml("OneHotEncoder", ["X"], ["f"], cats_strings=["a", "b"]),
        "whole numbers",
    ),
    "labels of text": (
        lambda: _ml(
            "LabelEncoder", ["X"], ["f"], keys_strings=["a"], values_floats=[1.0]
        ),
        "whole numbers",
    ),
    "a tree that leads nowhere": (
        lambda: _ml(
            "TreeEnsembleRegressor", ["X"], ["f"],
            **{**_trees(), "nodes_truenodeids": [9] * 10}, **_leaves("target", 1),
        ),
        "not there",
    ),
    "a tree that is a circle": (
        lambda: _ml(
            "TreeEnsembleRegressor", ["X"], ["f"],
            **{**_trees(), "nodes_truenodeids": [0] * 10}, **_leaves("target", 1),
        ),
        "levels",
    ),
    "probabilities of scores": (
        lambda: _ml(
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
        load(_model(nodes(), {}, "f", 1))


MALFORMED: Mapping[str, Callable[[], Nodes]] = {
    "no table": lambda: _ml("TreeEnsembleRegressor", ["X"], ["f"], n_targets=1),
    "a table of terabytes": lambda: _ml(
        "TreeEnsembleRegressor", ["X"], ["f"],
        **_trees(), **_leaves("target", 1), n_targets=1 << 40,
    ),
    "no input": lambda: _ml("Binarizer", [], ["f"]),
    "more factors than vectors": lambda: _ml(
        "SVMRegressor", ["X"], ["f"], coefficients=[1.0], rho=[0.0],
        support_vectors=[1.0] * 7, n_supports=2,
    ),
    "keys without values": lambda: _ml(
        "LabelEncoder", ["X"], ["f"],
        keys_floats=[1.0, 2.0, 3.0], values_floats=[1.0] * 2,
    ),
}  # fmt: skip  # a table


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_step_is_refused_without_a_traceback(case: str) -> None:
    with pytest.raises(FederationError):
        compile_model(_model(MALFORMED[case](), {}, "f", 1), loss="mse")


def test_labels_beside_scores_are_left_out() -> None:
    weights = {"w": np.eye(4, 3, dtype=np.float32) + 0.5}
    nodes = [
        helper.make_node("Gemm", ["X", "w"], ["f"]),
        helper.make_node("ArgMax", ["f"], ["label"], axis=1),
    ]
    model = _model(nodes, weights, "f", 3)
    label = helper.make_tensor_value_info("label", TensorProto.INT64, [None, 1])
    model.graph.output.append(label)

    assert compile_model(model, loss="cross-entropy").manifest.output.shape == (3,)


def _run(
    model: onnx.ModelProto | bytes, inputs: Mapping[str, NDArray[np.generic]]
) -> NDArray[np.float32]:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options)
    return np.asarray(session.run(None, dict(inputs))[0])
