"""The loss starts from a model's scores, behind what makes probabilities of them."""

import math

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from starling.compiler import Bundle, CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.protocol.model.training_bundle import EVALUATE
from tests.unit.compiler.autodiff.ending_models import Nodes, ending_model
from tests.unit.compiler.small_models import node


def _loss(bundle: Bundle, y: NDArray[np.generic]) -> list[NDArray[np.float32]]:
    """What a bundle says of three examples: losses, then the outputs."""
    session = onnxruntime.InferenceSession(bundle.standalone(EVALUATE))
    x = np.random.default_rng(2).standard_normal((3, 4)).astype(np.float32)
    found = session.run(None, {"theta": bundle.theta, "x": x, "y": y})
    return [found[0], found[1]]


SOFTMAX: dict[str, Nodes] = {
    "scores": [node("Identity", ["z"], ["out"])],
    "softmax": [node("Softmax", ["z"], ["out"], axis=-1)],
    "softmax and a guard": [
        node("Softmax", ["z"], ["p"], axis=-1),
        node("Clip", ["p", "low", "high"], ["out"]),
    ],
    "logarithm of a softmax": [
        node("Softmax", ["z"], ["p"], axis=1),
        node("Log", ["p"], ["out"]),
    ],
    "softmax of pixels, flattened": [
        node("Reshape", ["z", "spots"], ["i"]),
        node("Softmax", ["i"], ["p"], axis=1),
        node("Flatten", ["p"], ["out"]),
    ],
    "softmax of pixels, squeezed": [
        node("Reshape", ["z", "spots"], ["i"]),
        node("Softmax", ["i"], ["p"], axis=1),
        node("Squeeze", ["p", "last"], ["s"]),
        node("Dropout", ["s"], ["out"]),
    ],
}


@pytest.mark.parametrize("case", SOFTMAX)
def test_cross_entropy_is_that_of_the_probabilities(case: str) -> None:
    bundle = compile_model(ending_model(SOFTMAX[case], 3), loss="cross-entropy")
    labels = np.array([0, 2, 1])

    losses, outputs = _loss(bundle, labels)

    as_they_are = case in ("scores", "logarithm of a softmax")
    scores = outputs if as_they_are else np.log(outputs)
    shares = np.exp(scores - scores.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    expected = -np.log(shares[np.arange(3), labels])
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


PAIRS: dict[str, tuple[str, int, Nodes]] = {
    "softmax under bce": ("bce", 2, [node("Softmax", ["z"], ["out"], axis=1)]),
    "softmax of halves, as scikit-learn's are written": (
        "bce",
        2,
        [
            node("Mul", ["z", "one"], ["out/scores"]),
            node("Softmax", ["out/scores"], ["out"], axis=1),
        ],
    ),
    "sigmoid and its rest under bce": (
        "bce",
        1,
        [
            node("Sigmoid", ["z"], ["p"]),
            node("Sub", ["one", "p"], ["q"]),
            node("Concat", ["q", "p"], ["out"], axis=1),
        ],
    ),
    "sigmoid and its rest under cross-entropy": (
        "cross-entropy",
        1,
        [
            node("Sigmoid", ["z"], ["p"]),
            node("Sub", ["one", "p"], ["q"]),
            node("Concat", ["q", "p"], ["out"], axis=1),
        ],
    ),
    "sigmoid under bce, reshaped": (
        "bce",
        2,
        [node("Sigmoid", ["z"], ["p"]), node("Reshape", ["p", "row"], ["out"])],
    ),
}


@pytest.mark.parametrize("case", PAIRS)
def test_probabilities_of_two_classes_are_taken_for_what_they_are(case: str) -> None:
    loss, width, nodes = PAIRS[case]
    bundle = compile_model(ending_model(nodes, width, (2,)), loss=loss)
    labels = np.array([0, 1, 1])
    chosen = np.eye(2, dtype=np.float32)[labels]

    losses, shares = _loss(bundle, labels if loss == "cross-entropy" else chosen)

    if loss == "cross-entropy":
        expected = -np.log(shares[np.arange(3), labels])
    else:
        each = chosen * np.log(shares) + (1 - chosen) * np.log(1 - shares)
        expected = -each.mean(axis=1)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


def test_cross_entropy_of_one_class_is_refused() -> None:
    with pytest.raises(CompileError, match="always 0"):
        compile_model(
            ending_model([node("Identity", ["z"], ["out"])], 1), loss="cross-entropy"
        )


def test_certain_and_right_answer_of_two_classes_costs_nothing() -> None:
    proto = ending_model([node("Softmax", ["z"], ["out"], axis=1)], 2)
    bundle = compile_model(proto, loss="bce")
    session = onnxruntime.InferenceSession(bundle.standalone(EVALUATE))
    theta = np.array([[-20, 20]] * 4, np.float32).reshape(-1)
    x, y = np.ones((1, 4), np.float32), np.array([[0, 1]], np.float32)

    loss = session.run(["loss"], {"theta": theta, "x": x, "y": y})[0][0]

    assert math.isclose(loss, 0.0, abs_tol=1e-6)
