"""Weights that contradict each other are refused by name."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from starling.compiler import CompileError, compile_model
from tests.unit.compiler.small_models import build, node, weight

RNG = np.random.default_rng(0)
Shapes = dict[str, tuple[int, ...]]


def _recurrent(kind: str, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[kind]
    sizes: Shapes = {"w": (1, 4 * gates, 3), "r": (1, 4 * gates, 4)} | {
        "b": (1, 8 * gates)
    }
    weights: dict[str, NDArray[np.generic]] = {
        name: weight(RNG, *shape) for name, shape in (sizes | shapes).items()
    }
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node(kind, ["t", "w", "r", "b"], ["all", "last"], "layer", hidden_size=4),
        node("Squeeze", ["last", "first"], ["out"]),
    ]
    weights["first"] = np.array([0], np.int64)
    return build(nodes, weights, (6, 3), (4,))


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        pytest.param("LSTM", {"w": (1, 16, 2)}, id="another input"),
        pytest.param("LSTM", {"r": (1, 16, 5)}, id="another state"),
        pytest.param("LSTM", {"b": (1, 16)}, id="half a bias"),
        pytest.param("GRU", {"w": (1, 16, 3), "r": (1, 16, 4)}, id="gates of another"),
        pytest.param("RNN", {"w": (2, 4, 3), "r": (2, 4, 4)}, id="two directions"),
    ],
)
def test_recurrent_layer_whose_weights_contradict_is_refused(
    kind: str, shapes: Shapes
) -> None:
    with pytest.raises(CompileError, match=r"layer \(.*has the shape.*ask for"):
        compile_model(_recurrent(kind, **shapes), loss="mse")


def _layered(
    nodes: Sequence[onnx.NodeProto], row: tuple[int, ...], **shapes: tuple[int, ...]
) -> onnx.ModelProto:
    weights = {name: weight(RNG, *shape) for name, shape in shapes.items()}
    return build(nodes, weights, row, row)


@pytest.mark.parametrize(
    "gain", [(6,), (1,), (1, 6), (2, 6), (1, 1, 6), (2, 1), (1, 2, 6)], ids=str
)
def test_gain_that_is_repeated_along_axes_is_taken(gain: tuple[int, ...]) -> None:
    axis = -1 if max(gain[:-1], default=1) == 1 else 1
    nodes = [node("LayerNormalization", ["x", "g"], ["out"], axis=axis)]

    assert compile_model(_layered(nodes, (2, 6), g=gain), loss="mse").theta.size


def test_gain_of_another_width_is_refused() -> None:
    nodes = [node("LayerNormalization", ["x", "g"], ["out"], "norm")]

    with pytest.raises(CompileError, match=r"norm \(.*\(5\).*\(6\)"):
        compile_model(_layered(nodes, (2, 6), g=(5,)), loss="mse")


def test_kernel_unlike_its_attribute_is_refused() -> None:
    nodes = [node("Conv", ["x", "k"], ["out"], "layer", kernel_shape=[1])]

    with pytest.raises(CompileError, match=r"layer \(Conv\).*\(2, 2, 3\)"):
        compile_model(_layered(nodes, (2, 6), k=(2, 2, 3)), loss="mse")
