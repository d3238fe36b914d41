"""What the input is shifted by or divided by is no weight."""

import numpy as np
import pytest

from starling.compiler import compile_model
from starling.compiler.reader.model_file import load
from starling.compiler.reader.network_reader import read_network
from tests.unit.compiler.parameters.declared import declared
from tests.unit.compiler.parameters.survey_models import (
    RNG,
    Tensors,
    scaled_input,
    trained_names,
)
from tests.unit.compiler.small_models import build, node, weight


@pytest.mark.parametrize("written", [True, False], ids=["declared", "by place"])
def test_mean_and_spread_of_the_input_are_constants(*, written: bool) -> None:
    proto = scaled_input()
    if written:
        kinds = {"mean": "BUFFER", "std": "BUFFER", "w": "PARAMETER"}
        proto = declared(proto, kinds)

    network = read_network(load(proto))

    assert [*network.parameters] == ["w"]
    assert {*network.fixed} == {"mean", "std"}
    assert bool(network.notes) != written


_STEPS = {
    "reshaped": [
        node("Reshape", ["mean", "shape"], ["m"]),
        node("Sub", ["x", "m"], ["c"]),
        node("Div", ["c", "std"], ["s"]),
    ],
    "the other way round": [
        node("Sub", ["mean", "x"], ["c"]),
        node("Div", ["c", "std"], ["s"]),
    ],
    "the root of a variance": [
        node("Add", ["std", "small"], ["v"]),
        node("Sqrt", ["v"], ["r"]),
        node("Sub", ["x", "mean"], ["c"]),
        node("Div", ["c", "r"], ["s"]),
    ],
    "between bounds": [
        node("Sub", ["x", "mean"], ["c"]),
        node("Sub", ["std", "mean"], ["r"]),
        node("Div", ["c", "r"], ["s"]),
    ],
}


@pytest.mark.parametrize("case", _STEPS)
def test_spread_of_the_input_that_is_computed_is_a_constant(case: str) -> None:
    weights: Tensors = {
        "mean": weight(RNG, 4),
        "std": 3 + RNG.random(4, np.float32),
        "small": np.full(1, 1e-5, np.float32),
        "shape": np.array([1, 4]),
        "w": weight(RNG, 4, 3),
    }
    nodes = [*_STEPS[case], node("MatMul", ["s", "w"], ["out"])]
    read = {name for each in nodes for name in each.input}
    kept = {name: value for name, value in weights.items() if name in read}

    network = read_network(load(build(nodes, kept, (4,), (3,))))

    assert [*network.parameters] == ["w"]
    assert {"mean", "std"} <= {*network.fixed}


def test_scale_of_the_input_that_may_be_a_weight_is_told() -> None:
    weights = {"a": weight(RNG, 4), "b": weight(RNG, 4), "w": weight(RNG, 4, 3)}
    nodes = [
        node("Mul", ["x", "a"], ["m"]),
        node("Add", ["m", "b"], ["s"]),
        node("MatMul", ["s", "w"], ["out"]),
    ]

    network = read_network(load(build(nodes, weights, (4,), (3,))))

    assert [*network.parameters] == ["a", "b", "w"]
    assert any(line.startswith("a, b: scales or shifts") for line in network.notes)


@pytest.mark.parametrize("producer", ["skl2onnx", ""])
def test_scaler_of_scikit_learn_is_no_weight(producer: str) -> None:
    weights: Tensors = {
        "Mu_Mulcst": 1 + RNG.random(4, np.float32),
        "Ad_Addcst": weight(RNG, 4),
        "coef": weight(RNG, 4, 1),
        "Ad_Addcst1": weight(RNG, 1),
    }
    nodes = [
        node("Mul", ["x", "Mu_Mulcst"], ["m"]),
        node("Add", ["m", "Ad_Addcst"], ["a"]),
        node("MatMul", ["a", "coef"], ["z"]),
        node("Add", ["z", "Ad_Addcst1"], ["out"]),
    ]
    proto = build(nodes, weights, (4,), (1,))
    proto.producer_name = producer

    bundle = compile_model(proto, loss="mse")

    kept = ["coef", "Ad_Addcst1"] if producer else [*weights]
    assert {*trained_names(bundle)} == {*kept}
