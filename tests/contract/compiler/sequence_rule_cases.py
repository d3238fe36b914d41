"""Small models around operators of sequences: picking, recurrence, normalisation."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.compiler.ir.graph_writer import Attribute
from tests.unit.compiler.small_models import build, node, weight

Model = tuple[onnx.ModelProto, str]
Arrays = dict[str, NDArray[np.generic]]


def _picked(
    kind: str, out: tuple[int, ...], *constants: list[int], **attributes: Attribute
) -> Model:
    """A linear layer on three steps of four values, and some of what it gives."""
    rng = np.random.default_rng(21)
    names = [f"c{index}" for index in range(len(constants))]
    weights: Arrays = {"w": weight(rng, 4, 4)}
    weights |= {
        name: np.array(values, np.int64)
        for name, values in zip(names, constants, strict=True)
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node(kind, ["t", *names], ["out"], "", **attributes),
    ]
    return build(nodes, weights, (3, 4), out), "mse"


def _parts(*, whole: bool) -> Model:
    rng = np.random.default_rng(22)
    weights: Arrays = {"w": weight(rng, 4, 6), "sizes": np.array([1, 3, 2], np.int64)}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Split", ["h", "sizes"], ["a", "b", "c"], axis=1),
        node("ReduceSum", ["b", "one"], ["s"]),
        node("Mul", ["a", "s"], ["m"]),
        node("Add", ["m", "c"], ["out"]) if whole else node("Neg", ["m"], ["out"]),
    ]
    weights["one"] = np.array([1], np.int64)
    return build(nodes, weights, (4,), (2,) if whole else (1,)), "mse"


def _table(height: int) -> Model:
    """An embedding whose indices come from the input, one of them twice."""
    rng = np.random.default_rng(23)
    weights: Arrays = {
        "table": weight(rng, height, 3),
        "first": np.array([0, 0, 1, 2], np.int64),
    }
    nodes = [
        node("Gather", ["x", "first"], ["twice"], axis=1),
        node("Cast", ["twice"], ["i"], to=7),
        node("Gather", ["table", "i"], ["rows"]),
        node("Tanh", ["rows"], ["out"]),
    ]
    return build(nodes, weights, (3,), (4, 3)), "mse"


def _normalised(
    kind: str,
    row: tuple[int, ...],
    opset: int = 17,
    **attributes: Attribute,
) -> Model:
    rng = np.random.default_rng(24)
    sizes = row[:1]
    if kind == "LayerNormalization":
        sizes = row[-1:]
    weights: Arrays = {
        "w": weight(rng, row[-1], row[-1]),
        "gain": 1 + rng.random(sizes, np.float32),
        "bias": weight(rng, *sizes),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node(kind, ["h", "gain", "bias"], ["out"], "", **attributes),
    ]
    return build(nodes, weights, row, row, opset), "mse"


def _recurrent(
    kind: str, gates: int, directions: int, output: int, **attributes: Attribute
) -> Model:
    """All steps (output 0) or a last state, time first as the operators have it."""
    rng = np.random.default_rng(25)
    hidden = 3
    weights: Arrays = {
        "w": weight(rng, directions, gates * hidden, 4),
        "r": weight(rng, directions, gates * hidden, hidden),
        "b": weight(rng, directions, 2 * gates * hidden),
    }
    outputs = ["", "", ""]
    outputs[output] = "y"
    nodes = [
        node("Transpose", ["x"], ["time"], perm=[1, 0, 2]),
        node(
            kind, ["time", "w", "r", "b"], outputs[: output + 1], "",
            hidden_size=hidden, **attributes,
        ),
    ]  # fmt: skip  # a table
    perm = [1, 0, 2] if output else [2, 0, 1, 3]
    nodes.append(node("Transpose", ["y"], ["out"], perm=perm))
    out = (directions, hidden) if output else (5, directions, hidden)
    return build(nodes, weights, (5, 4), out), "mse"


def _stateful() -> Model:
    """An LSTM whose first states are computed from the input."""
    rng = np.random.default_rng(26)
    weights: Arrays = {
        "w": weight(rng, 1, 12, 4),
        "r": weight(rng, 1, 12, 3),
        "s": weight(rng, 4, 3),
        "axis": np.array([0], np.int64),
        "last": np.array(-1, np.int64),
        "shape": np.array([1, -1, 3], np.int64),
    }
    nodes = [
        node("Transpose", ["x"], ["time"], perm=[1, 0, 2]),
        node("Gather", ["x", "last"], ["end"], axis=1),
        node("MatMul", ["end", "s"], ["state"]),
        node("Unsqueeze", ["state", "axis"], ["h0"]),
        node("Tanh", ["h0"], ["c0"]),
        node("LSTM", ["time", "w", "r", "", "", "h0", "c0"], ["y", "h", "c"]),
        node("Concat", ["h", "c"], ["both"], axis=2),
        node("Squeeze", ["both", "axis"], ["out"]),
    ]
    nodes[5].attribute.append(onnx.helper.make_attribute("hidden_size", 3))
    return build(nodes, weights, (3, 4), (6,)), "mse"


def _steps_first() -> Model:
    """Linear layers, a softmax and a mean with time before the batch."""
    rng = np.random.default_rng(27)
    weights: Arrays = {
        "w": weight(rng, 4, 4),
        "v": weight(rng, 4, 4),
        "place": weight(rng, 3, 1, 4),
        "flat": np.array([-1, 4], np.int64),
        "steps": np.array([3, -1, 4], np.int64),
        "time": np.array([0], np.int64),
        "ends": np.array([1], np.int64),
        "stop": np.array([3], np.int64),
    }
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("Add", ["t", "place"], ["p"]),
        node("Reshape", ["p", "flat"], ["f"]),
        node("Gemm", ["f", "w"], ["g"], transB=1, alpha=0.5),
        node("Reshape", ["g", "steps"], ["s"]),
        node("MatMul", ["s", "v"], ["m"]),
        node("Softmax", ["m"], ["q"], axis=0),
        node("Slice", ["q", "ends", "stop", "time"], ["late"]),
        node("ReduceMean", ["late"], ["out"], axes=[0], keepdims=0),
    ]
    return build(nodes, weights, (3, 4), (4,)), "mse"


def _heads() -> Model:
    """Attention with batch and heads in one axis, as older exports have it."""
    rng = np.random.default_rng(28)
    weights: Arrays = {
        "w": weight(rng, 4, 12),
        "sizes": np.array([4, 4, 4], np.int64),
        "fold": np.array([3, -1, 2], np.int64),
        "unfold": np.array([3, -1, 4], np.int64),
        "mask": weight(rng, 3, 3),
    }
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("MatMul", ["t", "w"], ["all"]),
        node("Split", ["all", "sizes"], ["q", "k", "v"], axis=-1),
    ]
    for name in "qkv":
        nodes.append(node("Reshape", [name, "fold"], [f"{name}2"]))
        perm = [1, 2, 0] if name == "k" else [1, 0, 2]
        nodes.append(node("Transpose", [f"{name}2"], [f"{name}3"], perm=perm))
    nodes += [
        node("MatMul", ["q3", "k3"], ["scores"]),
        node("Add", ["scores", "mask"], ["masked"]),
        node("Softmax", ["masked"], ["shares"], axis=-1),
        node("MatMul", ["shares", "v3"], ["mixed"]),
        node("Transpose", ["mixed"], ["back"], perm=[1, 0, 2]),
        node("Reshape", ["back", "unfold"], ["joined"]),
        node("Transpose", ["joined"], ["out"], perm=[1, 0, 2]),
    ]
    return build(nodes, weights, (3, 4), (3, 4)), "mse"


def _repeated() -> Model:
    """A learned token in front of each example's steps."""
    rng = np.random.default_rng(29)
    weights: Arrays = {
        "token": weight(rng, 1, 1, 4),
        "zero": np.array(0, np.int64),
        "rest": np.array([1, 4], np.int64),
        "axis": np.array([0], np.int64),
    }
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axis"], ["n1"]),
        node("Concat", ["n1", "rest"], ["target"], axis=0),
        node("Expand", ["token", "target"], ["tokens"]),
        node("Concat", ["tokens", "x"], ["steps"], axis=1),
        node("Tanh", ["steps"], ["out"]),
    ]
    return build(nodes, weights, (2, 4), (3, 4)), "mse"


def _turned(positions: int) -> Model:
    """A weight turned round and one made of slices, applied to each step."""
    rng = np.random.default_rng(30)
    weights: Arrays = {
        "w": weight(rng, 5, 4),
        "u": weight(rng, 4, 6),
        "from": np.array([1], np.int64),
        "to": np.array([6], np.int64),
        "axis": np.array([1], np.int64),
    }
    nodes = [
        node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        node("Slice", ["u", "from", "to", "axis"], ["part"]),
        node("MatMul", ["x", "wt"], ["a"]),
        node("MatMul", ["x", "part"], ["b"]),
        node("Mul", ["a", "b"], ["out"]),
    ]
    return build(nodes, weights, (positions, 4), (positions, 5)), "mse"


SEQUENCE_CASES: Mapping[str, Callable[[], Model]] = {
    "slice": lambda: _picked("Slice", (2, 4), [1], [3], [1]),
    "slice from the end": lambda: _picked("Slice", (3, 2), [-2], [1 << 40], [2]),
    "slice, steps": lambda: _picked("Slice", (2, 2), [0, 0], [9, 9], [1, 2], [2, 3]),
    "slice, backwards": lambda: _picked("Slice", (3, 4), [-1], [-9], [2], [-1]),
    "slice, whole batch": lambda: _picked(
        "Slice", (3, 1), [0, 1], [1 << 40, 2], [0, 2]
    ),
    "gather one": lambda: _picked("Gather", (1, 4), [-1], axis=1),
    "gather some twice": lambda: _picked("Gather", (3, 3), [2, 0, 2], axis=2),
    "pad": lambda: _picked("Pad", (6, 5), [0, 1, 0, 0, 2, 1]),
    "pad, reflect": lambda: _picked("Pad", (6, 5), [0, 1, 0, 0, 2, 1], mode="reflect"),
    "pad, negative": lambda: _picked("Pad", (3, 5), [0, -1, 2, 0, 1, -1]),
    "pad, negative edge": lambda: _picked(
        "Pad", (4, 4), [0, -1, 2, 0, 2, -2], mode="edge"
    ),
    "pad, longer than its axis": lambda: _picked(
        "Pad", (13, 4), [0, 7, 0, 0, 3, 0], mode="edge"
    ),
    "pad, edge": lambda: _picked("Pad", (6, 4), [0, 1, 0, 0, 2, 0], mode="edge"),
    "largest along": lambda: _picked("ReduceMax", (4,), axes=[1], keepdims=0),
    "smallest along": lambda: _picked("ReduceMin", (3, 1), axes=[-1]),
    "length": lambda: _picked("ReduceL2", (3, 1), axes=[2]),
    "squares": lambda: _picked("ReduceSumSquare", (1, 1), axes=[1, 2]),
    "sum of exponentials": lambda: _picked("ReduceLogSumExp", (3, 1), axes=[2]),
    "split": lambda: _parts(whole=True),
    "split, one part unused": lambda: _parts(whole=False),
    "table, tall": lambda: _table(9),
    "table, low": lambda: _table(4),
    "layer": lambda: _normalised("LayerNormalization", (3, 4), axis=-1),
    "instance": lambda: _normalised("InstanceNormalization", (3, 5)),
    "groups": lambda: _normalised(
        "GroupNormalization", (4, 3, 5), opset=21, num_groups=2
    ),
    "lstm": lambda: _recurrent("LSTM", 4, 1, 0),
    "lstm, reverse": lambda: _recurrent("LSTM", 4, 1, 1, direction="reverse"),
    "lstm, both ways": lambda: _recurrent("LSTM", 4, 2, 0, direction="bidirectional"),
    "lstm, memory": lambda: _recurrent("LSTM", 4, 2, 2, direction="bidirectional"),
    "lstm, given states": _stateful,
    "gru, late": lambda: _recurrent("GRU", 3, 1, 0, linear_before_reset=1),
    "gru, early": lambda: _recurrent("GRU", 3, 1, 1),
    "gru, both ways": lambda: _recurrent(
        "GRU", 3, 2, 0, direction="bidirectional", linear_before_reset=1
    ),
    "steps first": _steps_first,
    "heads": _heads,
    "repeated": _repeated,
    "turned, short": lambda: _turned(1),
    "turned, long": lambda: _turned(7),
}
