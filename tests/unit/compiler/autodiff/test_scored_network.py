"""The loss starts from a model's scores, or says what stands in its way."""

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from starling.compiler import Bundle, CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.protocol.model.training_bundle import EVALUATE
from tests.unit.compiler.small_models import build, node, weight

Nodes = list[onnx.NodeProto]
RNG = np.random.default_rng(0)


def _model(nodes: Nodes, width: int, out: tuple[int, ...] = ()) -> onnx.ModelProto:
    """A linear layer to `z` and what is told behind it."""
    weights: dict[str, NDArray[np.generic]] = {
        "w": weight(RNG, 4, width),
        "low": np.array(1e-7, np.float32),
        "high": np.array(1 - 1e-7, np.float32),
        "one": np.array(1, np.float32),
        "two": np.array(2, np.float32),
        "spots": np.array([-1, width, 1, 1], np.int64),
        "row": np.array([-1, width], np.int64),
        "last": np.array([2, 3], np.int64),
        "first": np.array([1], np.int64),
        "second": np.array([2], np.int64),
        "thirty": np.array(30, np.float32),
        "gain": weight(RNG, 3),
    }
    layers = [node("MatMul", ["x", "w"], ["z"]), *nodes]
    used = {name for made in layers for name in made.input}
    kept = {name: value for name, value in weights.items() if name in used}
    return build(layers, kept, (4,), out or (width,))


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
    bundle = compile_model(_model(SOFTMAX[case], 3), loss="cross-entropy")
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
    bundle = compile_model(_model(nodes, width, (2,)), loss=loss)
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


REFUSED: dict[str, tuple[str, Nodes, str]] = {
    "sigmoid under cross-entropy": (
        "cross-entropy",
        [node("Sigmoid", ["z"], ["out"], "s")],
        r"s \(Sigmoid\).*--loss bce",
    ),
    "softmax of three classes under bce": (
        "bce",
        [node("Softmax", ["z"], ["out"], "s", axis=1)],
        r"s \(Softmax\).*--loss cross-entropy",
    ),
    "softmax twice": (
        "cross-entropy",
        [
            node("Softmax", ["z"], ["p"], "s", axis=1),
            node("Softmax", ["p"], ["out"], axis=1),
        ],
        r"s \(Softmax\)",
    ),
    "logarithm of a softmax and a hair under bce": (
        "bce",
        [
            node("Softmax", ["z"], ["p"], "s", axis=1),
            node("Add", ["p", "low"], ["q"]),
            node("Log", ["q"], ["out"]),
        ],
        r"s \(Softmax\).*--loss cross-entropy",
    ),
    "log-softmax by hand under bce": (
        "bce",
        [
            node("ReduceLogSumExp", ["z"], ["s"], axes=[1]),
            node("Sub", ["z", "s"], ["out"], "by hand"),
        ],
        r"by hand \(Sub\)",
    ),
    "log-softmax by smaller hands under bce": (
        "bce",
        [
            node("Exp", ["z"], ["e"]),
            node("ReduceSum", ["e", "first"], ["t"]),
            node("Log", ["t"], ["s"]),
            node("Sub", ["z", "s"], ["out"], "by hand"),
        ],
        r"by hand \(Sub\)",
    ),
    "costs of classes": (
        "cross-entropy",
        [
            node("LogSoftmax", ["z"], ["p"], "s", axis=1),
            node("Neg", ["p"], ["out"]),
        ],
        r"s \(LogSoftmax\)",
    ),
    "running sums of probabilities": (
        "bce",
        [
            node("Softmax", ["z"], ["p"], "s", axis=1),
            node("CumSum", ["p", "first"], ["out"]),
        ],
        r"s \(Softmax\)",
    ),
    "what a division leaves": (
        "bce",
        [node("Mod", ["z", "two"], ["out"], "s", fmod=1)],
        r"s \(Mod\)",
    ),
    "sigmoid twice": (
        "bce",
        [node("Sigmoid", ["z"], ["p"], "s"), node("Sigmoid", ["p"], ["out"])],
        r"s \(Sigmoid\)",
    ),
    "sigmoids joined": (
        "bce",
        [
            node("Sigmoid", ["z"], ["p"], "s"),
            node("Neg", ["z"], ["q"]),
            node("Concat", ["q", "p"], ["out"], axis=1),
        ],
        r"s \(Sigmoid\)",
    ),
    "clip that is no guard": (
        "cross-entropy",
        [node("Clip", ["z", "low", "high"], ["out"], "c")],
        r"c \(Clip\)",
    ),
    "rest of a sigmoid": (
        "bce",
        [node("Sigmoid", ["z"], ["p"], "s"), node("Sub", ["one", "p"], ["out"])],
        r"s \(Sigmoid\)",
    ),
    "one column of a softmax": (
        "bce",
        [
            node("Softmax", ["z"], ["p"], "s", axis=1),
            node("Slice", ["p", "first", "second", "first"], ["out"]),
        ],
        r"s \(Softmax\)",
    ),
    "mean of two softmaxes": (
        "cross-entropy",
        [
            node("Softmax", ["z"], ["p"], "s", axis=1),
            node("Neg", ["z"], ["n"]),
            node("Softmax", ["n"], ["q"], axis=1),
            node("Mean", ["p", "q"], ["out"]),
        ],
        r"s \(Softmax\)",
    ),
    "softmax written by hand": (
        "cross-entropy",
        [
            node("Exp", ["z"], ["e"]),
            node("ReduceSum", ["e", "first"], ["t"], keepdims=1),
            node("Div", ["e", "t"], ["out"], "share"),
        ],
        r"share \(Div\)",
    ),
    "sigmoid written by hand": (
        "bce",
        [
            node("Neg", ["z"], ["n"]),
            node("Exp", ["n"], ["e"], "s"),
            node("Add", ["one", "e"], ["d"]),
            node("Reciprocal", ["d"], ["out"]),
        ],
        r"s \(Exp\).*between 0 and 1",
    ),
    "logarithm of a sigmoid": (
        "bce",
        [
            node("Neg", ["z"], ["n"]),
            node("Softplus", ["n"], ["p"], "s"),
            node("Neg", ["p"], ["out"]),
        ],
        r"s \(Softplus\)",
    ),
    "threshold": (
        "bce",
        [
            node("Greater", ["z", "one"], ["g"], "s"),
            node("Cast", ["g"], ["p"], to=1),
            node("Add", ["p", "one"], ["out"]),
        ],
        r"s \(Greater\)",
    ),
    **{
        f"{kind} under {loss}": (loss, [node(kind, ["z"], ["out"], "n")], "n")
        for kind in ("Relu", "Tanh", "HardSigmoid", "Softsign")
        for loss in ("bce", "cross-entropy")
    },
}


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
@pytest.mark.parametrize(
    "kind",
    [
        "Abs",
        "Acos",
        "Acosh",
        "Asin",
        "Atan",
        "Cosh",
        "LpNormalization",
        "Sqrt",
        "ThresholdedRelu",
    ],
)
def test_ending_that_keeps_scores_to_one_side_or_near_zero_is_refused(
    kind: str, loss: str
) -> None:
    proto = _model([node(kind, ["z"], ["out"], "s")], 3)

    with pytest.raises(CompileError, match=rf"s \({kind}\).*keeps its output between"):
        compile_model(proto, loss=loss)


@pytest.mark.parametrize(
    "squared", [node("Mul", ["z", "z"], ["out"]), node("Pow", ["z", "two"], ["out"])]
)
def test_squares_are_no_scores_but_squared_distances_below_zero_are(
    squared: onnx.NodeProto,
) -> None:
    with pytest.raises(CompileError, match="between 0 and inf"):
        compile_model(_model([squared], 3), loss="cross-entropy")
    far = onnx.NodeProto()
    far.CopyFrom(squared)
    far.output[0] = "far"

    bundle = compile_model(
        _model([far, node("Neg", ["far"], ["out"])], 3), loss="cross-entropy"
    )

    assert check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


@pytest.mark.parametrize("case", REFUSED)
def test_ending_of_another_loss_is_refused_by_name(case: str) -> None:
    loss, nodes, message = REFUSED[case]
    width = {"sigmoids joined": 6, "one column of a softmax": 1}.get(case, 3)

    with pytest.raises(CompileError, match=message) as caught:
        compile_model(_model(nodes, 3, (width,)), loss=loss)

    assert caught.value.nodes


TAKEN: dict[str, Nodes] = {
    "scores that are capped far away": [
        node("Div", ["z", "thirty"], ["d"]),
        node("Tanh", ["d"], ["t"]),
        node("Mul", ["t", "thirty"], ["out"]),
    ],
    "trained gain behind a sigmoid": [
        node("Sigmoid", ["z"], ["p"]),
        node("Mul", ["p", "gain"], ["out"]),
    ],
    "sigmoid that opens and shuts another value": [
        node("Sigmoid", ["z"], ["p"]),
        node("Mul", ["p", "z"], ["out"]),
    ],
    "average of a ReLU's values, as SqueezeNet ends": [
        node("Reshape", ["z", "spots"], ["i"]),
        node("Relu", ["i"], ["r"]),
        node("GlobalAveragePool", ["r"], ["g"]),
        node("Flatten", ["g"], ["out"]),
    ],
    "softmax kept off 0 by a maximum": [
        node("Softmax", ["z"], ["p"], axis=1),
        node("Max", ["low", "p"], ["out"]),
    ],
}


@pytest.mark.parametrize("case", TAKEN)
def test_endings_that_leave_scores_free_are_taken(case: str) -> None:
    bundle = compile_model(_model(TAKEN[case], 3), loss="cross-entropy")

    assert check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


@pytest.mark.parametrize("kind", ["Relu", "Sigmoid", "Softmax", "Tanh"])
def test_losses_of_values_take_every_ending(kind: str) -> None:
    bundle = compile_model(_model([node(kind, ["z"], ["out"])], 3), loss="mse")

    assert check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


def test_cross_entropy_of_one_class_is_refused() -> None:
    with pytest.raises(CompileError, match="always 0"):
        compile_model(
            _model([node("Identity", ["z"], ["out"])], 1), loss="cross-entropy"
        )


def test_certain_and_right_answer_of_two_classes_costs_nothing() -> None:
    proto = _model([node("Softmax", ["z"], ["out"], axis=1)], 2)
    bundle = compile_model(proto, loss="bce")
    session = onnxruntime.InferenceSession(bundle.standalone(EVALUATE))
    theta = np.array([[-20, 20]] * 4, np.float32).reshape(-1)
    x, y = np.ones((1, 4), np.float32), np.array([[0, 1]], np.float32)

    loss = session.run(["loss"], {"theta": theta, "x": x, "y": y})[0][0]

    assert math.isclose(loss, 0.0, abs_tol=1e-6)
