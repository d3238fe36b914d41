"""Branches that shapes decide stand in the graph; others are refused by name."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from starling.compiler import CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.reader.model_file import load
from starling.protocol.errors import FederationError
from tests.unit.compiler.small_models import build, node, weight


def _graph(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    output = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    return helper.make_graph(list(nodes), name, [], [output], [axis])


def _model(condition: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    """Takes an axis away if it has size 1, as PyTorch's older exporter writes it."""
    tensors: Mapping[str, NDArray[np.generic]] = {
        "w": weight(np.random.default_rng(0), 4, 4),
        "at": np.array(1, np.int64),
        "one": np.array(1, np.int64),
        "zero": np.array(0.0, np.float32),
    }
    branch = node("If", ["c"], ["out"], "branch")
    branch.attribute.extend(
        [
            helper.make_attribute(
                "then_branch", _graph("then", node("Squeeze", ["h", "axis"], ["r"]))
            ),
            helper.make_attribute("else_branch", _graph("else", _NEGATED)),
        ]
    )
    nodes = [node("MatMul", ["x", "w"], ["h"]), *condition, branch]
    return build(nodes, tensors, (1, 4), (4,))


_NEGATED = node("Neg", ["h"], ["r"])
_SHAPES = [
    node("Shape", ["h"], ["s"]),
    node("Gather", ["s", "at"], ["size"]),
    node("Equal", ["size", "one"], ["c"]),
]


def test_branch_that_shapes_decide_is_taken() -> None:
    bundle = compile_model(_model(_SHAPES), loss="mse")

    assert bundle.manifest.output.shape == (4,)
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


@pytest.mark.parametrize("taken", [True, False])
def test_branch_that_a_constant_decides_is_taken_with_its_weights(
    *, taken: bool
) -> None:
    rng = np.random.default_rng(0)
    inside = numpy_helper.from_array(weight(rng, 1, 4, 4), "inside")
    branch = node("If", ["c"], ["out"], "branch")
    for name, made in (
        ("then_branch", node("MatMul", ["h", "inside"], ["r"])),
        ("else_branch", node("Neg", ["h"], ["r"])),
    ):
        graph = _graph(name, made)
        graph.initializer.append(inside)
        branch.attribute.append(helper.make_attribute(name, graph))
    tensors = {"w": weight(rng, 4, 4), "c": np.array(taken)}
    model = build([node("MatMul", ["x", "w"], ["h"]), branch], tensors, (1, 4), (1, 4))

    bundle = compile_model(model, loss="mse")

    assert bundle.manifest.dimension == 16 + 16 * taken
    assert check_bundle(bundle, rng).worst <= TOLERANCE


def test_branch_that_examples_decide_is_refused_by_name() -> None:
    condition = [
        node("ReduceMax", ["h"], ["m"], keepdims=0),
        node("Greater", ["m", "zero"], ["c"]),
    ]

    with pytest.raises(CompileError, match="branch"):
        compile_model(_model(condition), loss="mse")


def test_branch_with_tensors_elsewhere_is_refused() -> None:
    model = _model(_SHAPES)
    then = model.graph.node[-1].attribute[0].g
    then.initializer[0].data_location = TensorProto.EXTERNAL

    with pytest.raises(FederationError):
        load(model)


def test_branch_that_the_size_of_the_batch_decides_is_refused() -> None:
    model = _model(_SHAPES)
    for item in model.graph.initializer:
        if item.name == "at":
            item.CopyFrom(numpy_helper.from_array(np.array(0, np.int64), "at"))
        if item.name == "one":
            item.CopyFrom(numpy_helper.from_array(np.array(61, np.int64), "one"))

    with pytest.raises(CompileError, match="branch"):
        load(model)
