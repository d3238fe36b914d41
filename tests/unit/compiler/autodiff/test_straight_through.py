"""Straight-through estimators pass slopes on; other steps are named."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest

from starling.compiler import compile_model
from starling.compiler.autodiff.straight_through import held, silent_steps
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.parameters.parameter_selection import WeightOptions
from starling.compiler.reader.model_file import load
from starling.compiler.reader.network_reader import read_network
from starling.engine.graph_check import checked_graph
from starling.engine.runtime.onnxruntime_session import open_session
from starling.protocol.model.training_bundle import GRADIENT
from tests.unit.compiler.small_models import build, node, weight


def _model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """Nodes from `h` to `q` between two linear layers."""
    rng = np.random.default_rng(0)
    weights = {
        "v": weight(rng, 4, 5),
        "w": weight(rng, 5, 3),
        "s": np.array(0.25, np.float32),
        "zero": np.array(0, np.float32),
    }
    nodes = (
        node("MatMul", ["x", "v"], ["h"]),
        *nodes,
        node("MatMul", ["q", "w"], ["out"]),
    )
    return build(nodes, weights, (4,), (3,))


STRAIGHT: Mapping[str, Sequence[onnx.NodeProto]] = {
    "x + (step(x) - x)": [
        node("Round", ["h"], ["r"]),
        node("Sub", ["r", "h"], ["d"]),
        node("Add", ["h", "d"], ["q"]),
    ],
    "(step(x) - x) + x": [
        node("Sign", ["h"], ["r"]),
        node("Sub", ["r", "h"], ["d"]),
        node("Add", ["d", "h"], ["q"]),
    ],
    "x - (x - step(x))": [
        node("Floor", ["h"], ["r"]),
        node("Sub", ["h", "r"], ["d"]),
        node("Sub", ["h", "d"], ["q"]),
    ],
    "(x - x) + step(x)": [
        node("Round", ["h"], ["r"]),
        node("Sub", ["h", "h"], ["d"]),
        node("Add", ["d", "r"], ["q"]),
    ],
    "(step(x) + x) - x": [
        node("Round", ["h"], ["r"]),
        node("Add", ["r", "h"], ["d"]),
        node("Sub", ["d", "h"], ["q"]),
    ],
    "a sum of three": [
        node("Round", ["h"], ["r"]),
        node("Neg", ["h"], ["n"]),
        node("Sum", ["h", "r", "n"], ["q"]),
    ],
    "a step whose size follows from each example": [
        node("ReduceMax", ["h"], ["m"], axes=[1], keepdims=1),
        node("Div", ["h", "m"], ["e"]),
        node("Round", ["e"], ["i"]),
        node("Mul", ["i", "m"], ["r"]),
        node("Sub", ["r", "h"], ["d"]),
        node("Add", ["h", "d"], ["q"]),
    ],
    "a step of what x was clipped from": [
        node("Mul", ["h", "s"], ["c"]),
        node("Div", ["c", "s"], ["b"]),
        node("Sign", ["h"], ["r"]),
        node("Sub", ["r", "b"], ["d"]),
        node("Add", ["d", "b"], ["q"]),
    ],
    "a comparison, behind copies": [
        node("Greater", ["h", "zero"], ["c"]),
        node("Cast", ["c"], ["r"], to=1),
        node("Identity", ["h"], ["copy"]),
        node("Sub", ["r", "copy"], ["d"]),
        node("Add", ["h", "d"], ["q"]),
    ],
    "steps of a quarter, whose difference is read twice": [
        node("Div", ["h", "s"], ["e"]),
        node("Round", ["e"], ["i"]),
        node("Mul", ["i", "s"], ["r"]),
        node("Sub", ["r", "h"], ["d"]),
        node("Add", ["h", "d"], ["p"]),
        node("Mul", ["d", "zero"], ["f"]),
        node("Add", ["p", "f"], ["q"]),
    ],
}


@pytest.mark.parametrize("case", STRAIGHT)
def test_straight_through_estimator_has_the_slope_of_one(case: str) -> None:
    proto = _model(*STRAIGHT[case])
    bundle = compile_model(proto, loss="mse", train=["v", "w"])
    rng = np.random.default_rng(1)
    x = rng.standard_normal((6, 4)).astype(np.float32)
    y = rng.standard_normal((6, 3)).astype(np.float32)
    w = bundle.theta[20:].reshape(5, 3)

    inputs = {"theta": bundle.theta, "x": x, "y": y}
    session = open_session(checked_graph(bundle.standalone(GRADIENT)))
    gradient = session.run(inputs)[0]

    values = onnx.reference.ReferenceEvaluator(proto).run(None, {"x": x})
    assert isinstance(values, list)
    slope = 2.0 / 3.0 * (values[0] - y)
    expected = x.T @ (slope @ w.T)
    np.testing.assert_allclose(gradient[:20].reshape(4, 5), expected, rtol=1e-4)
    assert check_bundle(bundle, rng).worst <= TOLERANCE
    names = silent_steps(read_network(load(proto), WeightOptions(("v", "w"))))
    assert names == ()


def test_smooth_difference_is_none() -> None:
    network = read_network(
        load(
            _model(
                node("Tanh", ["h"], ["r"]),
                node("Sub", ["r", "h"], ["d"]),
                node("Add", ["h", "d"], ["q"]),
            )
        )
    )

    assert [item.kind for item in held(network).nodes] == [
        item.kind for item in network.nodes
    ]


def test_number_that_a_comparison_chooses_is_named() -> None:
    proto = _model(
        node("Greater", ["h", "zero"], ["c"]),
        node("Where", ["c", "s", "zero"], ["r"], "choice"),
        node("Add", ["h", "r"], ["q"]),
    )

    assert silent_steps(read_network(load(proto))) == ("choice (Where)",)


def test_step_that_ends_a_gradient_is_named() -> None:
    proto = _model(
        node("Round", ["h"], ["r"], "rounding"),
        node("Greater", ["h", "zero"], ["c"]),
        node("Where", ["c", "h", "r"], ["q"]),
    )

    assert silent_steps(read_network(load(proto))) == ("rounding (Round)",)
