"""Models that read several examples at once are refused, node by node."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from starling.compiler import CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.engine.runtime.onnxruntime_session import open_session
from starling.protocol.errors import DecodeError
from starling.protocol.model.training_bundle import INFER
from tests.unit.compiler.small_models import build, node, weight


def _model(
    *nodes: onnx.NodeProto,
    out: tuple[int, ...] = (4,),
    **arrays: list[int] | list[float],
) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights: dict[str, NDArray[np.generic]] = {"w": weight(rng, 4, 4)}
    for name, values in arrays.items():
        kind = np.float32 if any(isinstance(v, float) for v in values) else np.int64
        weights[name] = np.array(values, kind)
    first = node("MatMul", ["x", "w"], ["h"], "first")
    return build([first, *nodes], weights, (3, 4), out)


REFUSED: Mapping[str, onnx.ModelProto] = {
    "mean over the batch": _model(
        node("ReduceMean", ["h"], ["m"], "odd", axes=[0], keepdims=1),
        node("Add", ["h", "m"], ["out"]),
        out=(3, 4),
    ),
    "softmax over the batch": _model(
        node("Softmax", ["h"], ["out"], "odd", axis=0), out=(3, 4)
    ),
    "examples against examples": _model(
        node("Reshape", ["h", "flat"], ["f"]),
        node("Transpose", ["f"], ["t"]),
        node("MatMul", ["f", "t"], ["s"], "odd"),
        node("ReduceSum", ["s", "axis"], ["out"], keepdims=1),
        flat=[-1, 12],
        axis=[1],
        out=(1,),
    ),
    "order of the batch turned": _model(
        node("Slice", ["h", "start", "stop", "axis", "step"], ["out"], "odd"),
        start=[-1],
        stop=[-1000],
        axis=[0],
        step=[-1],
        out=(3, 4),
    ),
    "examples joined": _model(
        node("Concat", ["h", "h"], ["out"], "odd", axis=0), out=(3, 4)
    ),
    "padding between examples": _model(
        node("Pad", ["h", "pads"], ["out"], "odd"),
        pads=[1, 0, 0, 0, 0, 0],
        out=(3, 4),
    ),
    "place of its own in each example": _model(
        node("Cast", ["h"], ["i"], to=7),
        node("Gather", ["h", "i"], ["g"], "odd", axis=1),
        node("ReduceSum", ["g", "axis"], ["out"], keepdims=0),
        axis=[1, 2],
        out=(4, 4),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_model_that_mixes_examples_is_refused_with_a_way_out(case: str) -> None:
    with pytest.raises(CompileError, match=r"; \w+") as caught:
        compile_model(REFUSED[case], loss="mse")

    assert case.startswith("examples joined") or caught.value.nodes


@pytest.mark.parametrize(
    ("first", "second"),
    [pytest.param("one", "end", id="one"), pytest.param("zero", "one", id="the rest")],
)
def test_cut_through_the_batch_is_refused_by_name(first: str, second: str) -> None:
    model = _model(
        node("Concat", ["h", "h"], ["j"], axis=0),
        node("Slice", ["j", first, second, "zero"], ["out"], "odd"),
        zero=[0],
        one=[1],
        end=[1 << 62],
        out=(3, 4),
    )

    with pytest.raises(CompileError, match="out"):
        compile_model(model, loss="mse")


def _copied(first: int) -> onnx.ModelProto:
    """A weight of (2, 3, 4), written once for each example along an axis."""
    rng = np.random.default_rng(first)
    flat = [-1, 2, 3, 4] if first == 0 else [2, -1, 3, 4]
    weights: dict[str, NDArray[np.generic]] = {
        "rows": weight(rng, 2, 3, 4),
        "one": np.array([1], np.int64),
        "flat": np.array(flat, np.int64),
        "row": np.array([-1, 24], np.int64),
        "head": weight(rng, 24, 5),
        "mix": weight(rng, 4, 4),
    }
    counts = ["one", "one", "one"]
    counts[first] = "n"
    nodes = [
        node("Shape", ["x"], ["n"], start=0, end=1),
        node("Concat", counts, ["counts"], axis=0),
        node("Tile", ["rows", "counts"], ["many"]),
        node("MatMul", ["many", "mix"], ["mixed"]),
        node("Tanh", ["mixed"], ["h"]),
        node("Reshape", ["h", "flat"], ["g"]),
    ]
    if first:
        nodes.append(node("Transpose", ["g"], ["t"], perm=[1, 0, 2, 3]))
    nodes += [
        node("Add", ["t" if first else "g", "x"], ["sum"]),
        node("Sigmoid", ["sum"], ["bent"]),
        node("Reshape", ["bent", "row"], ["line"]),
        node("MatMul", ["line", "head"], ["out"]),
    ]
    return build(nodes, weights, (2, 3, 4), (5,))


@pytest.mark.parametrize("first", [0, 1])
def test_weight_that_is_written_once_for_each_example_is_trained_once(
    first: int,
) -> None:
    proto = _copied(first)

    bundle = compile_model(proto, loss="mse")

    x = np.random.default_rng(9).standard_normal((3, 2, 3, 4)).astype(np.float32)
    feeds = {"theta": bundle.theta, "x": x}
    (found,) = open_session(bundle.opened.graphs[INFER]).run(feeds)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (expected,) = session.run(None, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert bundle.manifest.dimension == 2 * 3 * 4 + 24 * 5 + 4 * 4
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


def test_size_of_the_batch_as_a_number_is_refused() -> None:
    model = _model(
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Cast", ["n"], ["f"], to=1),
        node("Div", ["h", "f"], ["out"], "odd"),
        zero=[0],
        out=(3, 4),
    )

    with pytest.raises(CompileError):
        compile_model(model, loss="mse")


def test_weight_that_acts_through_steps_alone_is_refused() -> None:
    model = _model(node("Floor", ["h"], ["out"], "step"), out=(3, 4))

    with pytest.raises(CompileError, match=r"step \(Floor\): .*steps.*--output"):
        compile_model(model, loss="mse")


def test_constant_that_would_be_huge_is_not_computed() -> None:
    model = _model(
        node("ConstantOfShape", ["size"], ["huge"], "odd"),
        node("ReduceSum", ["huge", "axis"], ["s"], keepdims=0),
        node("Add", ["h", "s"], ["out"]),
        size=[1 << 40],
        axis=[0],
        out=(3, 4),
    )

    with pytest.raises(CompileError, match="ConstantOfShape"):
        compile_model(model, loss="mse")


def test_constant_cast_to_an_unknown_type_is_refused() -> None:
    model = _model(
        node("Cast", ["size"], ["odd"], "cast", to=127),
        node("Reshape", ["h", "odd"], ["out"]),
        size=[-1, 12],
        out=(12,),
    )

    with pytest.raises((CompileError, DecodeError)):
        compile_model(model, loss="mse")
