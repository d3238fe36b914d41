"""Trees become a front of standard operators that is not trained."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from starling.compiler import compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.reader.model_file import load
from tests.unit.compiler.rewrite.frontends.sklearn_steps import (
    examples,
    leaf_weights,
    ml_node,
    output_of,
    pipeline_model,
    two_trees,
)

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
    nodes = ml_node(
        kind, ["X"], outputs, **two_trees(mode), **leaf_weights(side, scores), **numbers
    )
    model = pipeline_model(nodes, {}, "f", width)
    expected = output_of(model, {"X": examples()})
    head = helper.make_node("Gemm", ["f", "w"], ["y"])
    weights = {"w": np.eye(width, 2, dtype=np.float32) + 0.5}

    found = ReferenceEvaluator(load(model)).run(None, {"X": examples()})
    bundle = compile_model(pipeline_model([*nodes, head], weights, "y", 2), loss="mse")

    assert isinstance(found, list)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6)
    assert bundle.manifest.dimension == 2 * width
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE
