"""Bounds of every value of a network, and the function that sets them.

A loss of scores takes values of any size. What a sigmoid, a softmax or a ReLU keeps
within bounds stays so when it is averaged, picked from, joined, scaled by constants or
taken off 1; a trained layer behind it frees it again. Functions that are written out
(exp over its sum, 1 over 1 + exp) are bounded by the same arithmetic.

Source: Moore, Kearfott and Cloud 2009, chapter 2 (interval arithmetic).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnx import TensorProto

from starling.compiler.ir.network import Array, Network, NetworkNode

_INF = math.inf


@dataclass(frozen=True)
class ScoreRange:
    """Bounds of a value.

    Attributes:
      low: No element is smaller.
      high: No element is larger.
      node: That keeps it within them; None of constants and of free values.
    """

    low: float = -_INF
    high: float = _INF
    node: NetworkNode | None = None

    @property
    def free(self) -> bool:
        """True if there is no bound on either side."""
        return self.low == -_INF and self.high == _INF


FREE = ScoreRange()
_FUNCTIONS: Mapping[str, tuple[float, float]] = {
    "Abs": (0, _INF),
    "Acos": (0, math.pi),
    "Acosh": (0, _INF),
    "And": (0, 1),
    "Asin": (-math.pi / 2, math.pi / 2),
    "Atan": (-math.pi / 2, math.pi / 2),
    "Cos": (-1, 1),
    "Cosh": (1, _INF),
    "Equal": (0, 1),
    "Erf": (-1, 1),
    "Exp": (0, _INF),
    "GlobalLpPool": (0, _INF),
    "Greater": (0, 1),
    "GreaterOrEqual": (0, 1),
    "HardSigmoid": (0, 1),
    "Hardmax": (0, 1),
    "IsInf": (0, 1),
    "IsNaN": (0, 1),
    "Less": (0, 1),
    "LessOrEqual": (0, 1),
    "LogSoftmax": (-_INF, 0),
    "LpNormalization": (-1, 1),
    "LpPool": (0, _INF),
    "Not": (0, 1),
    "OneHot": (0, 1),
    "Or": (0, 1),
    "ReduceL1": (0, _INF),
    "ReduceL2": (0, _INF),
    "ReduceSumSquare": (0, _INF),
    "Relu": (0, _INF),
    "Sigmoid": (0, 1),
    "Sign": (-1, 1),
    "Sin": (-1, 1),
    "Softmax": (0, 1),
    "Softplus": (0, _INF),
    "Softsign": (-1, 1),
    "Sqrt": (0, _INF),
    "Tanh": (-1, 1),
    "Xor": (0, 1),
}
"""Bounds of functions for arguments of any size."""
_KEEPING = frozenset(
    {
        "AveragePool",
        "Ceil",
        "Concat",
        "Dropout",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
        "GatherND",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
        "Mean",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "Reshape",
        "Round",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "TopK",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)
"""Operators whose values lie among those of their inputs."""
_PICKING = frozenset({"Gather", "GatherElements", "GatherND"})
_LATER = frozenset({"Expand", "Reshape", "Slice", "Split", "Squeeze", "Tile", "TopK"})
_LATER |= {"ReduceMax", "ReduceMean", "ReduceMin", "Unsqueeze", "Dropout"}
"""Operators whose inputs behind the first are no values."""


def score_ranges(network: Network) -> Mapping[str, ScoreRange]:
    """Bounds of every value of a network; what is not in it is free."""
    found = {
        name: _of_constant(value)
        for name, value in network.constants.items()
        # A weight that is left out of training is judged as one that is trained.
        if name not in network.frozen
    }
    made = {name: node for node in network.nodes for name in node.outputs}
    for node in network.nodes:
        inputs = [found.get(name, FREE) for name in node.inputs]
        bounds = _bounds(network, node, inputs, made)
        if bounds.free:
            continue
        # All outputs lie within them: parts of a Split, the values and (unused) places
        # of a TopK.
        for name in node.outputs:
            found[name] = bounds
    return found


def _of_constant(value: Array) -> ScoreRange:
    if value.dtype.kind not in "fiub" or not value.size:
        return FREE
    low, high = float(value.min()), float(value.max())
    return ScoreRange(low, high) if low <= high else FREE


def _bounds(
    network: Network,
    node: NetworkNode,
    inputs: Sequence[ScoreRange],
    made: Mapping[str, NetworkNode],
) -> ScoreRange:
    """Bounds of a node's outputs."""
    found = FREE
    if node.kind in _FUNCTIONS:
        found = ScoreRange(*_FUNCTIONS[node.kind], node)
    elif node.kind in _KEEPING:
        found = _among(_values(node, inputs))
    elif node.kind == "Cast" and node.attributes["to"] == TensorProto.FLOAT:
        found = inputs[0]
    elif node.kind == "Div" and _is_share(node, made) and inputs[0].low >= 0:
        found = ScoreRange(0, 1, node)
    elif node.kind in ("CumSum", "ReduceSum"):
        found = _added_up(network, node, inputs[0])
    elif node.kind == "Sub" and _is_log_share(node, made):
        found = ScoreRange(-_INF, 0, node)
    elif _is_no_less_than_zero(network, node, inputs):
        found = ScoreRange(0, _INF, node)
    elif node.kind in _ARITHMETIC:
        low, high = _ARITHMETIC[node.kind](inputs)
        found = ScoreRange(low, high, _cause(inputs) or node)
    # The difference of two infinite ends is no number.
    return FREE if math.isnan(found.low) or math.isnan(found.high) else found


def _is_no_less_than_zero(
    network: Network, node: NetworkNode, inputs: Sequence[ScoreRange]
) -> bool:
    """True of squares, even powers and roots of any value, and of what has a bar."""
    if node.kind == "Pow":
        power = network.constants.get(node.inputs[1])
        return power is not None and bool(((power % 2 == 0) | (power % 1 != 0)).all())
    if node.kind == "ThresholdedRelu":
        return float(node.attributes.get("alpha", 1.0)) >= 0.0
    # Interval arithmetic takes the two factors for independent, and would find a
    # negative square.
    square = node.kind == "Mul" and node.inputs[0] == node.inputs[1]
    return square and inputs[0].free


def _values(node: NetworkNode, inputs: Sequence[ScoreRange]) -> Sequence[ScoreRange]:
    if node.kind == "Where":
        return inputs[1:]
    return inputs[:1] if node.kind in _LATER | _PICKING else inputs


def _among(inputs: Sequence[ScoreRange]) -> ScoreRange:
    low = min([item.low for item in inputs], default=-_INF)
    high = max([item.high for item in inputs], default=_INF)
    return ScoreRange(low, high, _cause(inputs))


def _cause(inputs: Sequence[ScoreRange]) -> NetworkNode | None:
    return next((item.node for item in inputs if item.node is not None), None)


def _is_share(node: NetworkNode, made: Mapping[str, NetworkNode]) -> bool:
    """True if a value is divided by its own sum."""
    total = made.get(node.inputs[1])
    while total is not None and total.kind in ("Expand", "Reshape", "Unsqueeze"):
        total = made.get(total.inputs[0])
    is_sum = total is not None and total.kind == "ReduceSum"
    return is_sum and total is not None and total.inputs[0] == node.inputs[0]


def _added_up(network: Network, node: NetworkNode, source: ScoreRange) -> ScoreRange:
    """A sum over axes of known size; running sums are of as many values at most."""
    shapes = [network.shapes.get(name) for name in (node.inputs[0], node.outputs[0])]
    if shapes[0] is None or shapes[1] is None:
        return FREE
    sizes = [math.prod([size for size in shape if size]) for shape in shapes if shape]
    count = sizes[0] / max(sizes[-1], 1) if len(sizes) == 2 else 1
    low, high = source.low * count, source.high * count
    if node.kind == "CumSum":
        most = math.prod([size for size in shapes[0] if size])
        low = min(source.low, source.low * most)
        high = max(source.high, source.high * most)
    return ScoreRange(low, high, source.node)


def _is_log_share(node: NetworkNode, made: Mapping[str, NetworkNode]) -> bool:
    """True if the logarithm of a sum of powers is taken off the powers' own ones."""
    scores, total = node.inputs[0], made.get(node.inputs[1])
    while total is not None and total.kind in ("Expand", "Reshape", "Unsqueeze"):
        total = made.get(total.inputs[0])
    if total is not None and total.kind == "Log":
        added = made.get(total.inputs[0])
        if added is None or added.kind != "ReduceSum":
            return False
        power = made.get(added.inputs[0])
        return power is not None and (power.kind, power.inputs[0]) == ("Exp", scores)
    known = total is not None and total.kind == "ReduceLogSumExp"
    return known and total is not None and total.inputs[0] == scores


_Bounds = tuple[float, float]


def _add(inputs: Sequence[ScoreRange]) -> _Bounds:
    return sum(item.low for item in inputs), sum(item.high for item in inputs)


def _subtract(inputs: Sequence[ScoreRange]) -> _Bounds:
    left, right = inputs
    return left.low - right.high, left.high - right.low


def _multiply(inputs: Sequence[ScoreRange]) -> _Bounds:
    left, right = inputs
    ends = [
        # Zero times an infinite end is no number, and no value of the product is beyond
        # 0.
        0.0 if 0.0 in (a, b) else a * b
        for a in (left.low, left.high)
        for b in (right.low, right.high)
    ]
    return min(ends), max(ends)


def _divide(inputs: Sequence[ScoreRange]) -> _Bounds:
    left, right = inputs
    return _multiply([left, ScoreRange(*_inverse([right]))])


def _inverse(inputs: Sequence[ScoreRange]) -> _Bounds:
    (value,) = inputs
    if value.low > 0 or value.high < 0:
        return 1 / value.high, 1 / value.low
    if value.low == 0 and value.high > 0:
        return 1 / value.high, _INF
    return -_INF, _INF


def _negate(inputs: Sequence[ScoreRange]) -> _Bounds:
    return -inputs[0].high, -inputs[0].low


def _logarithm(inputs: Sequence[ScoreRange]) -> _Bounds:
    low, high = inputs[0].low, inputs[0].high
    return (
        math.log(low) if low > 0 else -_INF,
        math.log(high) if high > 0 else -_INF,
    )


def _rest(inputs: Sequence[ScoreRange]) -> _Bounds:
    """Bounds of what a division leaves, with the sign of either side."""
    largest = max(-inputs[1].low, inputs[1].high)
    return -largest, largest


def _clip(inputs: Sequence[ScoreRange]) -> _Bounds:
    return max([item.low for item in inputs[:2]]), min(
        [item.high for item in (inputs[0], *inputs[2:])]
    )


_ARITHMETIC: Mapping[str, Callable[[Sequence[ScoreRange]], _Bounds]] = {
    "Add": _add,
    "Clip": _clip,
    "Div": _divide,
    "Log": _logarithm,
    "Max": lambda inputs: (
        max(item.low for item in inputs),
        max(item.high for item in inputs),
    ),
    "Min": lambda inputs: (
        min(item.low for item in inputs),
        min(item.high for item in inputs),
    ),
    "Mod": _rest,
    "Mul": _multiply,
    "Neg": _negate,
    "Reciprocal": _inverse,
    "Sub": _subtract,
    "Sum": _add,
}
"""From the bounds of a node's inputs to those of its output."""
