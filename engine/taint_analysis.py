"""Follows values through a graph: none that sizes something may come from a record.

Each value has a source: CONSTANT (it is written in the graph), SHAPE (it follows from
constants and from shapes), DATA (it depends on what an input holds: theta, x, y, clip).
The shape of a value has no data in it as long as no size has, which is what is shown
here node by node, so that `Shape` of data is SHAPE. What the graph itself sizes by
constants has a bound; what it sizes by shapes is bounded by the process that runs it.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

from starling.engine.onnx_graph import ConstantTensor, ElementType, Graph, GraphNode
from starling.engine.onnx_reader import RANK_MAX
from starling.engine.operator_allowlist import OPERATORS
from starling.protocol.errors import DecodeError, LimitError

ELEMENTS_MAX = 1 << 26
"""Values that one node makes out of constants alone; four times the largest theta."""
SIZES_MAX = 2 * RANK_MAX
"""Numbers in a value that says sizes: `Pad` has two for each axis."""
_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_TRUTH = frozenset({*_COMPARISONS, "And", "IsInf", "IsNaN", "Not", "Or"})
_PLACES = frozenset({"ArgMax", "ArgMin"})
_REAL_ONLY = frozenset(
    {"Pow", "Reciprocal", "ReduceL2", "ReduceLogSumExp", "ReduceMean"}
)
"""What would divide whole numbers by a count of none, or raise them to negatives."""
_DIVIDING = frozenset({"Div", "Mod"})
_RESHAPING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_MADE_LARGE = frozenset({"ConstantOfShape", "Expand", "OneHot", "Pad", "Tile"})


class ValueSource(IntEnum):
    """Taint of a value; a node's output has the largest taint of its inputs."""

    CONSTANT = 0
    SHAPE = 1
    DATA = 2


@dataclass(frozen=True)
class TracedValue:
    """Facts that are known about a value.

    Attributes:
      source: What it follows from.
      type: Of its entries.
      sizes: Its entries where it says sizes; None for one that a shape decides. None in
        place of all if they are not known.
    """

    source: ValueSource
    type: ElementType
    sizes: tuple[int | None, ...] | None = None


def check_sizes(graph: Graph) -> None:
    """Checks every node of a graph whose names and operators are in order.

    Raises:
      DecodeError: If a size may depend on data, or whole numbers are divided by what
        may be zero.
      LimitError: If constants ask for more than `ELEMENTS_MAX` values.
    """
    divisors = _Divisors(graph)
    values = {
        port.name: TracedValue(ValueSource.DATA, port.type) for port in graph.inputs
    }
    for tensor in graph.tensors:
        sizes = _numbers(tensor)
        values[tensor.name] = TracedValue(ValueSource.CONSTANT, tensor.type, sizes)
    for node in graph.nodes:
        read = [values[name] if name else None for name in node.inputs]
        _check_sources(node, read)
        _check_division(node, read, divisors)
        _check_elements(node, read)
        for index, name in enumerate(node.outputs):
            if name:
                values[name] = _made(node, read, index)


def _numbers(tensor: ConstantTensor) -> tuple[int, ...] | None:
    small = math.prod(tensor.shape) <= SIZES_MAX
    return tensor.integers() if tensor.type is ElementType.INT64 and small else None


def _check_sources(node: GraphNode, read: list[TracedValue | None]) -> None:
    for position in OPERATORS[node.operator].sizes:
        value = read[position] if position < len(read) else None
        if value is not None and value.source is ValueSource.DATA:
            raise DecodeError(
                f"graph: {node.operator} at {node.name[:80]!r} is sized by data"
            )


class _Divisors:
    """Constants that integers may be divided by; each is looked at once."""

    def __init__(self, graph: Graph) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.tensors}
        self._known: dict[str, bool] = {}

    def takes(self, name: str) -> bool:
        """True if it is a constant of positive integers."""
        if name not in self._known:
            tensor = self._tensors.get(name)
            self._known[name] = (
                tensor is not None and tensor.type.whole and tensor.is_positive()
            )
        return self._known[name]


def _check_division(
    node: GraphNode, read: list[TracedValue | None], divisors: _Divisors
) -> None:
    value = read[0] if read else None
    if value is None or value.type is ElementType.FLOAT32:
        return
    # A whole number divided by zero may end the process, where real ones give infinity.
    if node.operator in _REAL_ONLY:
        raise DecodeError(f"graph: {node.operator} of whole numbers is refused")
    if node.operator in _DIVIDING and not divisors.takes(node.inputs[1]):
        raise DecodeError(
            f"graph: {node.operator} of whole numbers by no positive constant"
        )


def _check_elements(node: GraphNode, read: list[TracedValue | None]) -> None:
    """Bounds what a node makes of constants: known sizes alone, others count as 1."""
    if node.operator not in _MADE_LARGE:
        return
    position = min(OPERATORS[node.operator].sizes)
    sizing = read[position] if position < len(read) else None
    # Data was refused before; what shapes decide is bounded by the process that runs
    # it.
    if sizing is None or (
        sizing.source is ValueSource.CONSTANT and sizing.sizes is None
    ):
        raise DecodeError(f"graph: {node.operator} is sized by no plain constant")
    known = [each for each in sizing.sizes or () if each is not None]
    if node.operator == "Pad":
        elements = sum([abs(each) for each in known])
    else:
        _check_plain(node, known)
        elements = math.prod([max(1, each) for each in known])
    if elements > ELEMENTS_MAX:
        raise LimitError(f"graph: {node.operator} makes {elements} values")


def _check_plain(node: GraphNode, known: list[int]) -> None:
    single = node.operator == "OneHot"
    if min(known, default=1) < single or (single and len(known) != 1):
        raise DecodeError(f"graph: {node.operator} of sizes {known[:4]}")


def _made(node: GraphNode, read: list[TracedValue | None], index: int) -> TracedValue:
    # Taint never falls, except by `Shape`.
    source = max(
        [value.source for value in read if value], default=ValueSource.CONSTANT
    )
    if node.operator == "Shape":
        start, end = node.attributes.get("start", 0), node.attributes.get("end")
        # The first axis alone is one number, the batch's size, which a caller's shape
        # decides.
        one = start == 0 and end == 1
        return TracedValue(
            ValueSource.SHAPE, ElementType.INT64, (None,) if one else None
        )
    return TracedValue(source, _type(node, read, index), _sizes(node, read))


def _type(node: GraphNode, read: list[TracedValue | None], index: int) -> ElementType:
    operator = node.operator
    if operator == "Cast":
        return _cast_type(node)
    if operator in _TRUTH:
        return ElementType.BOOL
    if operator in _PLACES or (operator in ("MaxPool", "TopK") and index == 1):
        return ElementType.INT64
    if operator == "ConstantOfShape":
        return ElementType.FLOAT32
    position = {"OneHot": 2, "Where": 1}.get(operator, 0)
    value = read[position] if position < len(read) else None
    # A list that lacks it is one that ONNX Runtime refuses.
    return ElementType.FLOAT32 if value is None else value.type


def _cast_type(node: GraphNode) -> ElementType:
    """Element type that a `Cast` produces.

    Raises:
      DecodeError: If that is not a type of ours.
    """
    wanted = node.attributes.get("to")
    if not isinstance(wanted, int) or wanted not in {int(kind) for kind in ElementType}:
        raise DecodeError(f"graph: Cast to type {wanted} is refused")
    return ElementType(wanted)


def _sizes(
    node: GraphNode, read: list[TracedValue | None]
) -> tuple[int | None, ...] | None:
    """The entries of a value that may say sizes, as far as they can be known."""
    if node.operator in _RESHAPING and read and read[0]:
        return read[0].sizes
    if node.operator != "Concat":
        return None
    joined: list[int | None] = []
    for value in read:
        if value is None or value.sizes is None:
            return None
        joined.extend(value.sizes)
        if len(joined) > SIZES_MAX:
            return None
    return tuple(joined)
