"""Small models around operators that move, pick or join values by their places."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.compiler.ir.graph_writer import Attribute
from tests.unit.compiler.small_models import build, node, weight

Model = tuple[onnx.ModelProto, str]
Arrays = dict[str, NDArray[np.generic]]


def _moved() -> Model:
    """A wide weight that is given another shape before it is used."""
    rng = np.random.default_rng(31)
    weights: Arrays = {"w": weight(rng, 33, 32), "shape": np.array([32, 33], np.int64)}
    nodes = [
        node("Reshape", ["w", "shape"], ["m"]),
        node("MatMul", ["x", "m"], ["out"]),
    ]
    return build(nodes, weights, (32,), (33,)), "mse"


def _copies() -> Model:
    """Copies of an image side by side, and of a row of weights."""
    rng = np.random.default_rng(41)
    weights: Arrays = {
        "w": weight(rng, 2, 2, 1, 1),
        "b": weight(rng, 1, 3, 1),
        "image": np.array([1, 1, 2, 3], np.int64),
        "row": np.array([2, 2, 1], np.int64),
    }
    nodes = [
        node("Conv", ["x", "w"], ["h"]),
        node("Tile", ["h", "image"], ["i"]),
        node("Tile", ["b", "row"], ["r"]),
        node("Mul", ["i", "r"], ["out"]),
    ]
    return build(nodes, weights, (2, 3, 4), (2, 6, 12)), "mse"


def _resized(out: tuple[int, ...], **attributes: Attribute) -> Model:
    """An image of 3 by 4, by scales where `axes` is given, else by sizes."""
    rng = np.random.default_rng(32)
    weights: Arrays = {"w": weight(rng, 2, 2, 1, 1), "sizes": np.array(out, np.int64)}
    sizes = [
        node("Shape", ["h"], ["n"], start=0, end=1),
        node("Concat", ["n", "sizes"], ["all"], axis=0),
    ]
    names = ["h", "", "", "all"]
    if "axes" in attributes:
        sizes, names = [], ["h", "", "scales"]
        weights["scales"] = np.array([2.0, 2.0], np.float32)
    nodes = [
        node("Conv", ["x", "w"], ["h"]),
        *sizes,
        node("Resize", names, ["r"], "", **attributes),
        node("Tanh", ["r"], ["out"]),
    ]
    return build(nodes, weights, (2, 3, 4), out, opset=18), "mse"


def _blocks(
    kind: str, row: tuple[int, ...], out: tuple[int, ...], **attributes: Attribute
) -> Model:
    rng = np.random.default_rng(33)
    weights = {"w": weight(rng, row[0], row[0], 1, 1), "b": weight(rng, *out)}
    nodes = [
        node("Conv", ["x", "w"], ["h"]),
        node(kind, ["h"], ["d"], "", blocksize=2, **attributes),
        node("Mul", ["d", "b"], ["out"]),
    ]
    return build(nodes, weights, row, out), "mse"


def _letters(equation: str, second: str, out: tuple[int, ...]) -> Model:
    """Einsum of what a layer gives with another one's, or with a weight."""
    rng = np.random.default_rng(34)
    weights = {"v": weight(rng, 4, 5), "w": weight(rng, 4, 5), "s": weight(rng, 3, 5)}
    nodes = [
        node("MatMul", ["x", "v"], ["a"]),
        node("MatMul", ["x", "w"], ["b"]),
        node("Einsum", ["a", second], ["e"], "", equation=equation),
        node("Tanh", ["e"], ["out"]),
    ]
    return build(nodes, weights, (3, 4), out), "mse"


def _looked_up() -> Model:
    """The step that each example names, one for each value."""
    rng = np.random.default_rng(35)
    weights: Arrays = {
        "w": weight(rng, 4, 4),
        "two": np.array(2, np.float32),
        "first": np.array([0, 0], np.int64),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node("Abs", ["x"], ["a"]),
        node("Min", ["a", "two"], ["m"]),
        node("Cast", ["m"], ["all"], to=7),
        node("Gather", ["all", "first"], ["places"], axis=1),
        node("GatherElements", ["t", "places"], ["out"], axis=1),
    ]
    return build(nodes, weights, (3, 4), (2, 4)), "mse"


def _largest() -> Model:
    rng = np.random.default_rng(36)
    weights: Arrays = {"w": weight(rng, 4, 6), "k": np.array([3], np.int64)}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("TopK", ["h", "k"], ["v", "i"], axis=1),
        node("Mul", ["v", "v"], ["out"]),
    ]
    return build(nodes, weights, (4,), (3,)), "mse"


def _running(**attributes: Attribute) -> Model:
    rng = np.random.default_rng(37)
    weights: Arrays = {"w": weight(rng, 4, 4), "axis": np.array(1, np.int64)}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("CumSum", ["h", "axis"], ["c"], "", **attributes),
        node("Tanh", ["c"], ["out"]),
    ]
    return build(nodes, weights, (3, 4), (3, 4)), "mse"


def _marked() -> Model:
    """Whole numbers become rows of zeros and a one; three tensors are added."""
    rng = np.random.default_rng(38)
    weights: Arrays = {
        "w": weight(rng, 5, 3),
        "v": weight(rng, 5, 3),
        "depth": np.array(5, np.int64),
        "values": np.array([0, 1], np.float32),
    }
    nodes = [
        node("Cast", ["x"], ["i"], to=7),
        node("OneHot", ["i", "depth", "values"], ["o"], axis=-1),
        node("MatMul", ["o", "w"], ["a"]),
        node("MatMul", ["o", "v"], ["b"]),
        node("Celu", ["b"], ["c"], alpha=0.5),
        node("Sum", ["a", "b", "c"], ["out"]),
    ]
    return build(nodes, weights, (2,), (2, 3)), "mse"


def _lengths(kind: str, gates: int, output: int, **attributes: Attribute) -> Model:
    """A recurrent layer whose examples are as long as their first value says."""
    rng = np.random.default_rng(39)
    ways = 2 if attributes.get("direction") == "bidirectional" else 1
    weights: Arrays = {
        "w": weight(rng, ways, gates * 3, 4),
        "r": weight(rng, ways, gates * 3, 3),
        "b": weight(rng, ways, 2 * gates * 3),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "four": np.array(4, np.float32),
    }
    outputs = ["", "", ""]
    outputs[output] = "y"
    nodes = [
        node("Transpose", ["x"], ["time"], perm=[1, 0, 2]),
        node("Slice", ["x", "zero", "one", "one"], ["step"]),
        node("ReduceSum", ["step", "ends"], ["sum"], keepdims=0),
        node("Abs", ["sum"], ["long"]),
        node("Min", ["long", "four"], ["most"]),
        node("Ceil", ["most"], ["up"]),
        node("Cast", ["up"], ["lengths"], to=6),
        node(
            kind,
            ["time", "w", "r", "b", "lengths"],
            outputs[: output + 1],
            "",
            hidden_size=3,
            **attributes,
        ),
        node("Transpose", ["y"], ["t"], perm=[1, 0, 2] if output else [2, 0, 1, 3]),
        node("Tanh", ["t"], ["out"]),
    ]
    weights["ends"] = np.array([1, 2], np.int64)
    out = (ways, 3) if output else (4, ways, 3)
    return build(nodes, weights, (4, 4), out), "mse"


def _plain(bends: str = "Tanh", **attributes: Attribute) -> Model:
    """A recurrent layer without gates."""
    rng = np.random.default_rng(40)
    weights: Arrays = {
        "w": weight(rng, 1, 3, 4),
        "r": weight(rng, 1, 3, 3),
        "b": weight(rng, 1, 6),
    }
    nodes = [
        node("Transpose", ["x"], ["time"], perm=[1, 0, 2]),
        node("RNN", ["time", "w", "r", "b"], ["y"], "", hidden_size=3, **attributes),
        node("Transpose", ["y"], ["out"], perm=[2, 0, 1, 3]),
    ]
    activations = onnx.helper.make_attribute("activations", [bends])
    nodes[1].attribute.append(activations)
    return build(nodes, weights, (5, 4), (5, 1, 3)), "mse"


PLACE_CASES: Mapping[str, Callable[[], Model]] = {
    "moved, wide": _moved,
    "copies": _copies,
    "resize, nearest": lambda: _resized(
        (2, 6, 8),
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
        axes=[2, 3],
    ),
    "resize, linear": lambda: _resized((2, 6, 8), mode="linear", axes=[2, 3]),
    "resize, to sizes": lambda: _resized((2, 5, 4), mode="linear"),
    "resize, smaller": lambda: _resized((2, 2, 3), mode="nearest"),
    "resize, cubic": lambda: _resized((2, 6, 7), mode="cubic"),
    "depth to space": lambda: _blocks("DepthToSpace", (8, 2, 3), (2, 4, 6)),
    "depth to space, columns first": lambda: _blocks(
        "DepthToSpace", (8, 2, 3), (2, 4, 6), mode="CRD"
    ),
    "space to depth": lambda: _blocks("SpaceToDepth", (2, 4, 6), (8, 2, 3)),
    "einsum, pairs": lambda: _letters("bic,bjc->bij", "b", (3, 3)),
    "einsum, weight": lambda: _letters("bic,jc->bji", "s", (3, 3)),
    "einsum, element by element": lambda: _letters("bic,ic->bic", "s", (3, 5)),
    "looked up": _looked_up,
    "largest few": _largest,
    "running sum": _running,
    "running sum, backwards": lambda: _running(reverse=1, exclusive=1),
    "marked": _marked,
    "lengths, lstm": lambda: _lengths("LSTM", 4, 0),
    "lengths, lstm both ways": lambda: _lengths(
        "LSTM", 4, 0, direction="bidirectional"
    ),
    "lengths, last memory": lambda: _lengths("LSTM", 4, 2, direction="bidirectional"),
    "lengths, gru": lambda: _lengths("GRU", 3, 1, linear_before_reset=1),
    "lengths, gru both ways": lambda: _lengths("GRU", 3, 0, direction="bidirectional"),
    "lengths, plain": lambda: _lengths("RNN", 1, 1),
    "plain": _plain,
    "plain, rectified": lambda: _plain("Relu", direction="reverse"),
}
