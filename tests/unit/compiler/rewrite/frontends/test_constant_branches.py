"""Branches that shapes decide stand in the graph; others are refused by name."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from starling.compiler import CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.reader.model_file import load
from starling.protocol.errors import FederationError
from starling.protocol.model.training_bundle import INFER
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


_ASKED: Mapping[str, Sequence[onnx.NodeProto]] = {
    "one": [node("Equal", ["n", "number"], ["c"])],
    "several": [node("Greater", ["n", "number"], ["c"])],
    "not one": [
        node("Equal", ["n", "number"], ["single"]),
        node("Not", ["single"], ["c"]),
    ],
}


def _by_batch(
    condition: Sequence[onnx.NodeProto], number: int, *branches: onnx.NodeProto
) -> onnx.ModelProto:
    """A model that compares the size of the batch with a number."""
    tensors: Mapping[str, NDArray[np.generic]] = {
        "w": weight(np.random.default_rng(0), 4, 3),
        "number": np.array([number], np.int64),
        "front": np.array([0], np.int64),
    }
    choice = node("If", ["c"], ["out"], "branch")
    for name, made in zip(("then_branch", "else_branch"), branches, strict=True):
        choice.attribute.append(helper.make_attribute(name, _graph(name, made)))
    size = node("Shape", ["h"], ["n"], start=0, end=1)
    nodes = [node("MatMul", ["x", "w"], ["h"]), size, *condition, choice]
    return build(nodes, tensors, (4,), (3,))


_SQUEEZED = node("Squeeze", ["h", "front"], ["r"])
_KEPT = node("Identity", ["h"], ["r"])


@pytest.mark.parametrize(
    ("asked", "branches"),
    [
        ("one", (_SQUEEZED, _KEPT)),
        ("several", (_KEPT, _SQUEEZED)),
        ("not one", (_KEPT, _SQUEEZED)),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_branch_of_a_single_example_that_takes_the_batch_away_is_left_out(
    asked: str, branches: Sequence[onnx.NodeProto], count: int
) -> None:
    model = _by_batch(_ASKED[asked], 1, *branches)
    x = np.random.default_rng(1).standard_normal((count, 4)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(None, {"x": x})

    bundle = compile_model(model, loss="mse")

    compiled = onnxruntime.InferenceSession(bundle.standalone(INFER))
    (found,) = compiled.run(None, {"theta": bundle.theta, "x": x})
    assert found.shape == (count, 3)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-6)


@pytest.mark.parametrize("asked", _ASKED)
@pytest.mark.parametrize("number", [1, 2, 61])
def test_branch_of_other_values_that_the_size_of_the_batch_decides_is_refused(
    asked: str, number: int
) -> None:
    model = _by_batch(_ASKED[asked], number, _KEPT, _NEGATED)

    with pytest.raises(CompileError, match=r"branch .*the size of the batch decides"):
        load(model)


def test_branch_that_no_batch_but_one_of_two_takes_away_is_refused() -> None:
    model = _by_batch(_ASKED["one"], 2, _SQUEEZED, _KEPT)

    with pytest.raises(CompileError, match=r"branch .*the size of the batch decides"):
        load(model)


def test_branches_with_tensors_of_their_own_under_one_name_hold_other_values() -> None:
    own = node("Identity", ["axis"], ["r"])
    model = _by_batch(_ASKED["one"], 1, own, own)

    with pytest.raises(CompileError, match=r"branch .*the size of the batch decides"):
        load(model)
