"""A support vector machine becomes a layer that is trained."""

from typing import Any

import numpy as np
import pytest

from starling.compiler import compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.protocol.model.training_bundle import INFER
from tests.unit.compiler.rewrite.frontends.sklearn_steps import (
    COLUMNS,
    Nodes,
    examples,
    ml_node,
    output_of,
    pipeline_model,
)


def _machine(kind: str, *, classes: int) -> Nodes:
    rng = np.random.default_rng(4)
    count = 6
    numbers: dict[str, Any] = {
        "kernel_type": kind,
        "kernel_params": [0.3, 0.5, 2.0],
        "support_vectors": rng.standard_normal(count * COLUMNS).tolist(),
    }
    if not classes:
        coefficients = rng.standard_normal(count).tolist()
        numbers |= {"coefficients": coefficients, "rho": [0.7], "n_supports": count}
        return ml_node("SVMRegressor", ["X"], ["f"], **numbers)
    pairs = classes * (classes - 1) // 2
    numbers |= {
        "coefficients": rng.standard_normal((classes - 1) * count).tolist(),
        "rho": rng.standard_normal(pairs).tolist(),
        "vectors_per_class": [count // classes] * classes,
        "classlabels_ints": list(range(classes)),
    }
    return ml_node("SVMClassifier", ["X"], ["label", "f"], **numbers)


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("kind", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vector_machine_is_a_trained_layer(kind: str, classes: int) -> None:
    model = pipeline_model(_machine(kind, classes=classes), {}, "f", max(classes, 1))

    bundle = compile_model(model, loss="mse")

    width = COLUMNS if kind == "LINEAR" else 6
    scores = {0: 1, 2: 1, 3: 3}[classes]
    assert bundle.manifest.dimension == scores * (width + 1)
    inputs = {"theta": bundle.theta, "X": examples()}
    found = output_of(
        bundle.standalone(INFER), {"theta": inputs["theta"], "x": examples()}
    )
    np.testing.assert_allclose(
        found, output_of(model, {"X": examples()}), rtol=1e-4, atol=1e-5
    )
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE
