"""Small models that index: by constants, through the batch, by what is computed."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.compiler.ir.graph_writer import Attribute
from tests.unit.compiler.small_models import build, node, weight

Model = tuple[onnx.ModelProto, str]
Arrays = dict[str, NDArray[np.generic]]
_HIDDEN = [node("MatMul", ["x", "w"], ["l"]), node("Tanh", ["l"], ["h"])]
"""Three steps of four values."""


def _model(
    nodes: Sequence[onnx.NodeProto],
    arrays: Mapping[str, NDArray[np.generic]],
    out: tuple[int, ...],
    opset: int = 18,
) -> Model:
    rng = np.random.default_rng(61)
    weights = {"w": weight(rng, 4, 4), **arrays}
    return build([*_HIDDEN, *nodes], weights, (3, 4), out, opset), "mse"


def _whole(*values: object) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _fancy(*, weighted: bool) -> Model:
    """Pairs of places, as PyTorch's newer exporter writes `h[:, i, j]`."""
    places = _whole([0, 1], [2, 3], [0, 1], [1, -4])
    arrays: Arrays = {"i": places, "g": weight(np.random.default_rng(62), 3, 4)}
    nodes = [
        node("Transpose", ["h"], ["t"], perm=[1, 2, 0]),
        node("GatherND", ["t", "i"], ["p"]),
        node("Transpose", ["p"], ["out"], perm=[1, 0]),
    ]
    if weighted:
        nodes[2].output[0] = "q"
        nodes += [
            node("GatherND", ["g", "i"], ["k"]),
            node("Mul", ["q", "k"], ["out"]),
        ]
    return _model(nodes, arrays, (4,))


def _beside_the_number_of_the_example(kind: str, **attributes: Attribute) -> Model:
    """Places (e, p) of example e, as a mask is indexed, or a slice is assigned to."""
    arrays: Arrays = {
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "places": _whole([[2], [0]]),
        "last": _whole(2),
        "axes": _whole(1, 2),
        "shape": _whole(1, 2, 1),
        "first": _whole(0),
        "two": _whole(2),
        "first_axis": _whole(1),
    }
    nodes = [
        node("Shape", ["x"], ["size"], start=0, end=1),
        node("Squeeze", ["size"], ["n"]),
        node("Range", ["zero", "n", "one"], ["numbers"]),
        node("Unsqueeze", ["numbers", "axes"], ["column"]),
        node("Expand", ["column", "shape"], ["examples"]),
        node("Concat", ["size", "shape_rest"], ["wanted"], axis=0),
        node("Expand", ["places", "wanted"], ["each"]),
        node("Concat", ["examples", "each"], ["i"], axis=2),
    ]
    arrays["shape_rest"] = _whole(2, 1)
    if kind == "GatherND":
        nodes.append(node("GatherND", ["h", "i"], ["out"], "", **attributes))
        return _model(nodes, arrays, (2, 4))
    nodes += [
        node("Slice", ["h", "first", "two", "first_axis"], ["news"]),
        node("Exp", ["news"], ["e"]),
        node("ScatterND", ["h", "i", "e"], ["out"], "", **attributes),
    ]
    return _model(nodes, arrays, (3, 4))


def _cut_to_a_shape(*, named: bool) -> Model:
    """Part of each example, up to a shape that says the size of the batch, too."""
    arrays: Arrays = {
        "starts": _whole(0, 1),
        "rest": _whole(3),
        "axes": _whole(0, 2),
    }
    inputs = ["h", "starts", "stops", *["axes"] * named]
    nodes = [
        node("Shape", ["x"], ["size"], start=0, end=1),
        node("Concat", ["size", "rest"], ["stops"], axis=0),
        node("Slice", inputs, ["out"]),
    ]
    return _model(nodes, arrays, (3, 2) if named else (2, 4))


def _masked() -> Model:
    """Columns where a constant mask is true."""
    arrays: Arrays = {"mask": np.array([True, False, True, True]), "last": _whole(1)}
    nodes = [
        node("NonZero", ["mask"], ["found"]),
        node("Transpose", ["found"], ["column"], perm=[1, 0]),
        node("Squeeze", ["column", "last"], ["places"]),
        node("Gather", ["h", "places"], ["out"], axis=2),
    ]
    return _model(nodes, arrays, (3, 3))


def _strided() -> Model:
    """A view of the whole batch as one row, read at 4 e + p."""
    arrays: Arrays = {
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "four": np.array(4, np.int64),
        "flat": _whole(-1),
        "axes": _whole(1),
        "places": _whole([3, 1, 1, 0, 2]),
        "axis": _whole(1),
    }
    nodes = [
        node("ReduceSum", ["h", "axis"], ["s"], keepdims=0),
        node("Reshape", ["s", "flat"], ["row"]),
        node("Shape", ["x"], ["size"], start=0, end=1),
        node("Squeeze", ["size"], ["n"]),
        node("Range", ["zero", "n", "one"], ["numbers"]),
        node("Mul", ["numbers", "four"], ["starts"]),
        node("Unsqueeze", ["starts", "axes"], ["column"]),
        node("Add", ["column", "places"], ["i"]),
        node("Gather", ["row", "i"], ["out"]),
    ]
    return _model(nodes, arrays, (5,))


def _assigned(reduction: str) -> Model:
    """New values at places in front of the batch, one of them twice."""
    arrays: Arrays = {"i": _whole([0, 1], [2, 3], [0, 1])}
    nodes = [
        node("Transpose", ["h"], ["t"], perm=[1, 2, 0]),
        node("GatherND", ["t", "j"], ["p"]),
        node("Exp", ["p"], ["e"]),
        node("ScatterND", ["t", "i", "e"], ["s"], "", reduction=reduction),
        node("Transpose", ["s"], ["out"], perm=[2, 0, 1]),
    ]
    arrays["j"] = _whole([1, 1], [2, 2], [0, 0])
    return _model(nodes, arrays, (3, 4))


def _elements(reduction: str) -> Model:
    """The same places of each example, repeated along the batch."""
    arrays: Arrays = {
        "places": _whole([[1, 0, 2, 2]]),
        "rest": _whole(1, 4),
        "first": _whole(0),
        "one": _whole(1),
    }
    nodes = [
        node("Shape", ["x"], ["size"], start=0, end=1),
        node("Concat", ["size", "rest"], ["wanted"], axis=0),
        node("Expand", ["places", "wanted"], ["i"]),
        node("Slice", ["h", "first", "one", "one"], ["news"]),
        node("Exp", ["news"], ["e"]),
        node(
            "ScatterElements", ["h", "i", "e"], ["out"], "",
            axis=1, reduction=reduction,
        ),
    ]  # fmt: skip  # a table
    return _model(nodes, arrays, (3, 4))


def _found_elements(reduction: str) -> Model:
    """New values where the largest ones stood."""
    arrays: Arrays = {"two": _whole(2)}
    nodes = [
        node("TopK", ["h", "two"], ["top", "i"], axis=2),
        node("Exp", ["top"], ["e"]),
        node(
            "ScatterElements", ["h", "i", "e"], ["out"], "",
            axis=2, reduction=reduction,
        ),
    ]  # fmt: skip  # a table
    return _model(nodes, arrays, (3, 4))


def _found() -> Model:
    """The values at the place of the largest one, in each example and in a table."""
    arrays: Arrays = {
        "table": weight(np.random.default_rng(63), 4, 4, 2),
        "last": _whole(-1),
        "i1": _whole(0),
    }
    nodes = [
        node("ArgMax", ["h"], ["m"], axis=2, keepdims=1),
        node("Concat", ["m", "m"], ["pair"], axis=2),
        node("GatherND", ["table", "pair"], ["t"]),
        node("ArgMax", ["h"], ["k"], axis=1, keepdims=0),
        node("Unsqueeze", ["k", "last"], ["place"]),
        node("GatherND", ["h", "place"], ["own"], batch_dims=1),
        node("ReduceSum", ["own", "middle"], ["s"], keepdims=1),
        node("ReduceSum", ["s", "last"], ["v"], keepdims=1),
        node("Mul", ["t", "v"], ["out"]),
    ]
    arrays["middle"] = _whole(1)
    return _model(nodes, arrays, (3, 2))


def _columns(*, folded: bool) -> Model:
    """Overlapping patches added up in an image."""
    rng = np.random.default_rng(64)
    row = (2, 8, 6) if folded else (8, 6)
    out = (2, 2, 5, 4) if folded else (2, 5, 4)
    arrays: Arrays = {
        "m": weight(rng, 6, 6),
        "size": _whole(5, 4),
        "block": _whole(2, 2),
        "fold": _whole(-1, 8, 6),
        "unfold": _whole(-1, *out),
    }
    nodes = [
        node("MatMul", ["x", "m"], ["t"]),
        node("Reshape", ["t", "fold"], ["c"]),
        node(
            "Col2Im", ["c", "size", "block"], ["i"], "",
            strides=[2, 1], pads=[0, 0, 1, 0], dilations=[1, 2],
        ),
        node("Reshape", ["i", "unfold"], ["out"]),
    ]  # fmt: skip  # a table
    return build(nodes, arrays, row, out, 18), "mse"


def _diagonal() -> Model:
    """The same places of each example, behind axes that are looked at in step."""
    arrays: Arrays = {
        "places": _whole([[[0], [2], [-1]]])[0],
        "rest": _whole(3, 1),
    }
    nodes = [
        node("Shape", ["x"], ["size"], start=0, end=1),
        node("Concat", ["size", "rest"], ["wanted"], axis=0),
        node("Expand", ["places", "wanted"], ["i"]),
        node("GatherND", ["h", "i"], ["out"], batch_dims=2),
    ]
    return _model(nodes, arrays, (3,))


INDEX_CASES: Mapping[str, Callable[[], Model]] = {
    "pairs of places": lambda: _fancy(weighted=False),
    "pairs of places of weights": lambda: _fancy(weighted=True),
    "places beside the example": lambda: _beside_the_number_of_the_example("GatherND"),
    "places through the batch": _strided,
    "part up to a shape": lambda: _cut_to_a_shape(named=False),
    "part of an axis up to a shape": lambda: _cut_to_a_shape(named=True),
    "columns by a mask": _masked,
    "slice assigned": lambda: _beside_the_number_of_the_example("ScatterND"),
    "places assigned": lambda: _assigned("none"),
    "places added to": lambda: _assigned("add"),
    "elements assigned": lambda: _elements("none"),
    "elements added to": lambda: _elements("add"),
    "found elements assigned": lambda: _found_elements("none"),
    "found elements added to": lambda: _found_elements("add"),
    "found places": _found,
    "diagonal": _diagonal,
    "columns": lambda: _columns(folded=False),
    "folded columns": lambda: _columns(folded=True),
}


def _spectrum(length: int, *, complex_values: bool, **attributes: Attribute) -> Model:
    """A transform along the steps, of real values or of pairs."""
    rng = np.random.default_rng(65)
    width = 2 if complex_values else 1
    kept = length // 2 + 1 if attributes.get("onesided") else length
    arrays: Arrays = {"m": weight(rng, width, width), "length": _whole(length)}
    arrays["length"] = np.array(length, np.int64)
    nodes = [
        node("MatMul", ["x", "m"], ["h"]),
        node("DFT", ["h", "length"], ["out"], "", axis=1, **attributes),
    ]
    return build(nodes, arrays, (6, width), (kept, 2), 17), "mse"


def _half_spectrum(length: int) -> Model:
    """Real values from the four places of half a spectrum."""
    arrays: Arrays = {
        "m": weight(np.random.default_rng(68), 2, 2),
        "length": np.array(length, np.int64),
        "axis": np.array(-2, np.int64),
    }
    nodes = [
        node("MatMul", ["x", "m"], ["h"]),
        node("DFT", ["h", "length", "axis"], ["out"], inverse=1, onesided=1),
    ]
    return build(nodes, arrays, (4, 2), (length, 1), 20), "mse"


def _frames() -> Model:
    """Weighted frames of a trained signal."""
    arrays: Arrays = {
        "m": weight(np.random.default_rng(66), 12, 12),
        "step": np.array(3, np.int64),
        "window": np.hanning(6).astype(np.float32),
        "last": _whole(-1),
    }
    nodes = [
        node("MatMul", ["x", "m"], ["h"]),
        node("Unsqueeze", ["h", "last"], ["u"]),
        node("STFT", ["u", "step", "window"], ["out"], onesided=1),
    ]
    return build(nodes, arrays, (12,), (3, 4, 2), 17), "mse"


def _near_channels() -> Model:
    rng = np.random.default_rng(67)
    arrays: Arrays = {"k": weight(rng, 5, 2, 1, 1)}
    nodes = [
        node("Conv", ["x", "k"], ["c"]),
        node("LRN", ["c"], ["out"], alpha=0.3, beta=0.7, bias=1.5, size=3),
    ]
    return build(nodes, arrays, (2, 3, 4), (5, 3, 4)), "mse"


SPECTRUM_CASES: Mapping[str, Callable[[], Model]] = {
    "spectrum": lambda: _spectrum(6, complex_values=False),
    "one side of a spectrum": lambda: _spectrum(6, complex_values=False, onesided=1),
    "spectrum of the first values": lambda: _spectrum(4, complex_values=True),
    "back from a spectrum": lambda: _spectrum(6, complex_values=True, inverse=1),
    "real values from half a spectrum": lambda: _half_spectrum(6),
    "an odd number of them": lambda: _half_spectrum(7),
    "spectra of frames": _frames,
    "channels near by": _near_channels,
}
