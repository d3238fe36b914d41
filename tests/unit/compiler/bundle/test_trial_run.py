"""What cannot run, or asks for more memory than there is, never leaves the compiler."""

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from starling.compiler import CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from tests.unit.compiler.small_models import build, node, weight

RNG = np.random.default_rng(0)
Tensors = dict[str, NDArray[np.generic]]


def _grown(kind: str, sizes: list[int], front: list[onnx.NodeProto]) -> onnx.ModelProto:
    """A layer behind something that makes very many values of x."""
    weights: Tensors = {
        "s": np.array(sizes, np.int64),
        "axes": np.array([1, 2], np.int64),
        "up": np.array([1, 2], np.int64),
        "w": weight(RNG, 4, 3),
    }
    nodes = [
        *front,
        node(kind, ["u", "s"], ["e"], "big"),
        node("ReduceSum", ["e", "axes"], ["r"], keepdims=0),
        node("MatMul", ["r", "w"], ["out"]),
    ]
    return build(nodes, weights, (4,), (3,), opset=18)


_UP = [node("Unsqueeze", ["x", "up"], ["u"])]
BOMBS: Mapping[str, onnx.ModelProto] = {
    "expanded": _grown("Expand", [1, 1 << 20, 1 << 18, 4], _UP),
    "repeated": _grown("Tile", [1, 1 << 18, 1 << 18, 1], _UP),
    "padded": _grown("Pad", [0, 0, 0, 0, 0, 1 << 16, 1 << 16, 0], _UP),
}


@pytest.mark.parametrize("case", BOMBS)
def test_model_of_terabytes_is_refused_by_its_node(case: str) -> None:
    with pytest.raises(CompileError, match=r"big \(.*values of one example"):
        compile_model(BOMBS[case], loss="mse")


def test_many_values_together_are_refused() -> None:
    nodes = [node("Conv", ["x", "k"], ["h0"])]
    nodes += [node("Tanh", [f"h{i}"], [f"h{i + 1}"]) for i in range(30)]
    nodes.append(node("GlobalAveragePool", ["h30"], ["out"]))
    proto = build(nodes, {"k": weight(RNG, 4096, 1, 1)}, (1, 8192), (4096, 1))

    with pytest.raises(CompileError, match="MiB of memory"):
        compile_model(proto, loss="mse")


def _counted(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A sum of constants beside a linear layer."""
    weights: Tensors = {
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "far": np.array(1 << 40, np.int64),
        "long": np.array([1 << 20], np.int64),
        "axis": np.array([0], np.int64),
        "w": weight(RNG, 4, 3),
    }
    rest = [
        node("Cast", ["c"], ["f"], to=1),
        node("ReduceSum", ["f", "axis"], ["s"], keepdims=0),
        node("Add", ["x", "s"], ["h"]),
        node("MatMul", ["h", "w"], ["out"]),
    ]
    return build([*nodes, *rest], weights, (4,), (3,), opset=18)


LONG: Mapping[str, onnx.ModelProto] = {
    "counted up": _counted(node("Range", ["zero", "far", "one"], ["c"], "big")),
    "counted up by nothing": _counted(
        node("Range", ["zero", "far", "zero"], ["c"], "big")
    ),
    "joined with itself": _counted(
        node("ConstantOfShape", ["long"], ["z"]),
        node("Concat", ["z"] * 2000, ["c"], "big", axis=0),
    ),
}


@pytest.mark.parametrize("case", LONG)
def test_vector_of_terabytes_is_refused_before_it_is_made(case: str) -> None:
    with pytest.raises(CompileError, match=r"big \(.*more than"):
        compile_model(LONG[case], loss="mse")


def test_constants_that_pair_up_to_terabytes_are_not_computed() -> None:
    weights: Tensors = {
        "column": np.zeros((1 << 19, 1), np.int64),
        "row": np.zeros((1, 1 << 19), np.int64),
        "w": weight(RNG, 4, 3),
    }
    nodes = [
        node("Add", ["column", "row"], ["all"], "big"),
        node("ReduceMax", ["all"], ["most"], keepdims=0),
        node("Cast", ["most"], ["number"], to=1),
        node("MatMul", ["x", "w"], ["h"]),
        node("Add", ["h", "number"], ["out"]),
    ]

    with pytest.raises(CompileError, match="big"):
        compile_model(build(nodes, weights, (4,), (3,), opset=18), loss="mse")


def _recurrent(kind: str, outputs: list[str], width: int) -> onnx.ModelProto:
    """A recurrent layer of 4 whose first state is as wide as told; 0 for none."""
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[kind]
    weights: Tensors = {
        "w": weight(RNG, 1, 4 * gates, 3),
        "r": weight(RNG, 1, 4 * gates, 4),
        "b": weight(RNG, 1, 8 * gates),
        "one": np.array([1], np.int64),
        "wide": np.array([width], np.int64),
        "zero": np.array([0], np.int64),
        "v": weight(RNG, 4, 3),
    }
    first = [
        node("Shape", ["x"], ["n"], start=0, end=1),
        node("Concat", ["one", "n", "wide"], ["size"], axis=0),
        node("ConstantOfShape", ["size"], ["h0"]),
    ]
    states = ["", "h0"] if width else []
    nodes = [
        *(first if width else []),
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node(kind, ["t", "w", "r", "b", *states], outputs, "layer", hidden_size=4),
        node("Squeeze", ["last", "zero"], ["z"]),
        node("MatMul", ["z", "v"], ["out"]),
    ]
    return build(nodes, weights, (6, 3), (3,), opset=18)


@pytest.mark.parametrize("width", [0, 4], ids=["alone", "with a first state"])
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
def test_last_state_alone_compiles(kind: str, width: int) -> None:
    bundle = compile_model(_recurrent(kind, ["", "last"], width), loss="mse")

    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
def test_first_state_of_another_width_is_refused(kind: str) -> None:
    with pytest.raises(CompileError, match=r"layer \(.*'h0'.*\(1, n, 5\).*\(1, n, 4\)"):
        compile_model(_recurrent(kind, ["all", "last"], 5), loss="mse")


def test_output_without_a_name_behind_the_last_one_is_left_out() -> None:
    nodes = [
        node("Conv", ["x", "k"], ["c"]),
        node("MaxPool", ["c"], ["out", ""], kernel_shape=[2]),
    ]
    proto = build(nodes, {"k": weight(RNG, 3, 2, 2)}, (2, 6), (3, 4))

    bundle = compile_model(proto, loss="mse")

    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE
