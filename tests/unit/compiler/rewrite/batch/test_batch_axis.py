"""Models that read several examples at once are refused, node by node."""

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from starling.compiler import CompileError, compile_model
from starling.protocol.errors import DecodeError
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
def test_model_that_mixes_examples_is_refused(case: str) -> None:
    with pytest.raises(CompileError):
        compile_model(REFUSED[case], loss="mse")


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

    with pytest.raises(CompileError, match="steps"):
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
