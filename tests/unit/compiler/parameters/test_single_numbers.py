"""Numbers without axes, or alone: when they are weights, and what is said of them."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from starling.compiler import compile_model
from tests.unit.compiler.parameters.declared import declared
from tests.unit.compiler.parameters.survey_models import (
    RNG,
    Tensors,
    is_sound,
    trained_names,
)
from tests.unit.compiler.small_models import build, node, weight


def _written(*, bias: NDArray[np.float32], every: bool) -> onnx.ModelProto:
    """A layer whose weight is a Constant node, and its bias too if `every`."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Add", ["h", "b"], ["out"]),
    ]
    tensors: dict[str, NDArray[np.generic]] = {"w": weight(RNG, 4, 3), "b": bias}
    names = ["w", "b"] if every else ["w"]
    for name in names:
        value = numpy_helper.from_array(tensors.pop(name), name)
        nodes.insert(0, helper.make_node("Constant", [], [name], value=value))
    return build(nodes, tensors, (4,), (3,))


@pytest.mark.parametrize("every", [True, False], ids=["all", "one"])
def test_weights_written_as_nodes_are_trained(*, every: bool) -> None:
    bundle = compile_model(
        _written(bias=np.zeros(3, np.float32), every=every), loss="mse"
    )

    assert {*trained_names(bundle)} == {"w", "b"}
    assert is_sound(bundle)


def test_literal_among_initialised_weights_is_no_weight() -> None:
    ones = numpy_helper.from_array(np.array([1.5, 2.5, 3.5], np.float32), "v")
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Constant", [], ["v"], value=ones),
        node("Mul", ["h", "v"], ["out"]),
    ]

    bundle = compile_model(
        build(nodes, {"w": weight(RNG, 4, 3)}, (4,), (3,)), loss="mse"
    )

    assert trained_names(bundle) == ["w"]


def _tempered() -> onnx.ModelProto:
    weights: Tensors = {"w": weight(RNG, 4, 3), "heat": np.array(0.5, np.float32)}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Mul", ["h", "heat"], ["out"])]
    return build(nodes, weights, (4,), (3,))


def test_number_without_axes_is_told_and_trained_by_name() -> None:
    told = compile_model(_tempered(), loss="mse")
    named = compile_model(_tempered(), loss="mse", train=["w", "heat"])

    assert any("heat" in line for line in told.notes)
    assert trained_names(told) == ["w"]
    assert {*trained_names(named)} == {"w", "heat"}
    assert is_sound(named)


@pytest.mark.parametrize("declares", [True, False], ids=["declared", "named"])
def test_number_that_a_module_owns_is_trained(*, declares: bool) -> None:
    proto = _tempered()
    proto.producer_name = "pytorch"
    if declares:
        proto = declared(proto, {"w": "PARAMETER", "heat": "PARAMETER"})

    bundle = compile_model(proto, loss="mse")

    assert {*trained_names(bundle)} == {"w", "heat"}
    assert all(line.startswith("w, heat: tensors of") for line in bundle.notes)
    assert len(bundle.notes) == (not declares)


def _one_factor(
    name: str, kind: str = "Mul", *, first: bool = False
) -> onnx.ModelProto:
    """A linear layer with one number, which has an axis, before or behind it."""
    weights: Tensors = {"w": weight(RNG, 4, 3), name: np.array([0.3], np.float32)}
    layer = ["s", "w"] if first else ["x", "w"]
    nodes = [node("MatMul", layer, ["out" if first else "h"])]
    scaled = node(kind, ["x" if first else "h", name], ["s" if first else "out"])
    nodes.insert(0 if first else 1, scaled)
    return build(nodes, weights, (4,), (3,))


@pytest.mark.parametrize("kind", ["Mul", "Div"])
@pytest.mark.parametrize("name", ["t", "sqrt_dim", "rescaling/Cast"])
def test_single_factor_that_nobody_names_is_told_and_trained_by_name(
    name: str, kind: str
) -> None:
    told = compile_model(_one_factor(name, kind), loss="mse")
    named = compile_model(_one_factor(name, kind), loss="mse", train=["w", name])

    assert trained_names(told) == ["w"]
    assert any("single numbers are no weights" in line for line in told.notes)
    assert {*trained_names(named)} == {"w", name}


@pytest.mark.parametrize(
    "name",
    ["layer.gamma", "scale/Read", "log_scale:0", "block_1/batchnorm/mul", "heat"],
)
def test_single_factor_with_the_name_of_a_weight_is_trained(name: str) -> None:
    bundle = compile_model(_one_factor(name), loss="mse")

    assert {*trained_names(bundle)} == {"w", name}


@pytest.mark.parametrize("kind", ["Mul", "Add", "Sub", "Div"])
@pytest.mark.parametrize("producer", ["pytorch", ""])
def test_single_number_on_the_input_itself_is_a_constant(
    kind: str, producer: str
) -> None:
    proto = _one_factor("scale", kind, first=True)
    proto.producer_name = producer

    bundle = compile_model(proto, loss="mse")

    assert trained_names(bundle) == ["w"]
    assert any("scale (shift or scale of the input)" in line for line in bundle.notes)
