"""Endings that keep scores within bounds are refused, and others are taken."""

import numpy as np
import onnx
import pytest

from starling.compiler import CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from tests.unit.compiler.autodiff.ending_models import Nodes, ending_model
from tests.unit.compiler.small_models import node

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
    proto = ending_model([node(kind, ["z"], ["out"], "s")], 3)

    with pytest.raises(CompileError, match=rf"s \({kind}\).*keeps its output between"):
        compile_model(proto, loss=loss)


@pytest.mark.parametrize(
    "squared", [node("Mul", ["z", "z"], ["out"]), node("Pow", ["z", "two"], ["out"])]
)
def test_squares_are_no_scores_but_squared_distances_below_zero_are(
    squared: onnx.NodeProto,
) -> None:
    with pytest.raises(CompileError, match="between 0 and inf"):
        compile_model(ending_model([squared], 3), loss="cross-entropy")
    far = onnx.NodeProto()
    far.CopyFrom(squared)
    far.output[0] = "far"

    bundle = compile_model(
        ending_model([far, node("Neg", ["far"], ["out"])], 3), loss="cross-entropy"
    )

    assert check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


@pytest.mark.parametrize("case", REFUSED)
def test_ending_of_another_loss_is_refused_by_name(case: str) -> None:
    loss, nodes, message = REFUSED[case]
    width = {"sigmoids joined": 6, "one column of a softmax": 1}.get(case, 3)

    with pytest.raises(CompileError, match=message) as caught:
        compile_model(ending_model(nodes, 3, (width,)), loss=loss)

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
    bundle = compile_model(ending_model(TAKEN[case], 3), loss="cross-entropy")

    assert check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


@pytest.mark.parametrize("kind", ["Relu", "Sigmoid", "Softmax", "Tanh"])
def test_losses_of_values_take_every_ending(kind: str) -> None:
    bundle = compile_model(ending_model([node(kind, ["z"], ["out"])], 3), loss="mse")

    assert check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE
