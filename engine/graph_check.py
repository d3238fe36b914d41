"""Checks of a graph beyond its form: known operators, in order, with bounded cost.

- Operators and their attributes are on the list of `engine.operator_allowlist`;
  numbers that make something large have named bounds.
- Each value has one maker, and nodes stand after what they read.
- Whole numbers are divided by positive constants: the processor traps otherwise.
- How large a value becomes follows from constants and from the shapes of the inputs,
  and never from what the inputs hold (`engine.taint_analysis`): whether and how a graph
  runs is then the same for all records, but for places in tables that are out of
  bounds, which ONNX Runtime checks.

Time and working memory are not bounded here: the process that runs it has limits.
"""

from starling.engine import taint_analysis
from starling.engine.onnx_graph import Attribute, Graph, GraphNode
from starling.engine.onnx_reader import RANK_MAX, KnownNodes, read_graph
from starling.engine.operator_allowlist import INTEGER, INTEGERS, OPERATORS, REAL, TEXT
from starling.protocol.errors import DecodeError, LimitError

NUMBER_MAX = (1 << 31) - 1
"""Of a whole number among the attributes, either way."""
WINDOW_MAX = 1 << 16
"""Of kernels, strides, pads and blocks."""
NUMBERS_MAX = 64
"""In one attribute."""
EDGES_MAX = 1 << 18
"""Inputs and outputs of all nodes."""
_WINDOW, _AXIS, _FLAG = (0, WINDOW_MAX), (-RANK_MAX, RANK_MAX), (0, 1)
_RANGES = {
    **dict.fromkeys(("kernel_shape", "strides", "pads", "dilations"), _WINDOW),
    **dict.fromkeys(("output_padding", "blocksize"), _WINDOW),
    **dict.fromkeys(("axis", "axes", "perm", "start", "end"), _AXIS),
    **dict.fromkeys(("keepdims", "noop_with_empty_axes", "allowzero"), _FLAG),
    **dict.fromkeys(("transA", "transB", "ceil_mode", "count_include_pad"), _FLAG),
    **dict.fromkeys(("exclusive", "reverse", "largest", "sorted"), _FLAG),
    **dict.fromkeys(("detect_negative", "detect_positive"), _FLAG),
    "select_last_index": _FLAG,
    **dict.fromkeys(("storage_order", "stash_type"), _FLAG),
    "group": (1, NUMBER_MAX),
    # The remainder of real numbers takes a time that their quotient decides.
    "fmod": (0, 0),
}
"""Of whole numbers by the attribute's name."""
_TEXTS = {
    "auto_pad": ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"),
    "mode": ("DCR", "CRD", "constant", "edge", "reflect"),
    "reduction": ("none", "add"),
}
_KINDS: dict[str, type | tuple[type, ...]] = {
    INTEGER: int,
    REAL: float,
    TEXT: str,
    INTEGERS: tuple,
}


def checked_graph(
    model: bytes, constants: bytes = b"", nodes: KnownNodes | None = None
) -> Graph:
    """Reads a serialised model and checks it.

    Args:
      model: To read.
      constants: The file beside it in which some of its tensors stand.
      nodes: See `onnx_reader.read_graph`.

    Raises:
      LimitError: If it is too long, or has or makes too much.
      DecodeError: If it is malformed or holds what is not run.
    """
    graph = read_graph(model, constants, nodes)
    check_graph(graph)
    return graph


def check_graph(graph: Graph) -> None:
    """Checks a graph, however it was made.

    Raises:
      LimitError, DecodeError: As `checked_graph`.
    """
    for node in graph.nodes:
        _check_node(node)
    _check_names(graph)
    # Last: it looks up every operator and every value by its name.
    taint_analysis.check_sizes(graph)


def _check_node(node: GraphNode) -> None:
    operator = OPERATORS.get(node.operator)
    if operator is None:
        shown = f"{node.operator[:80]!r} at {node.name[:80]!r}"
        raise DecodeError(f"graph: operator {shown} is refused")
    given, needed = len(node.inputs), operator.inputs_min
    if not needed <= given <= operator.inputs_max or not all(node.inputs[:needed]):
        raise DecodeError(f"graph: {node.operator} of {given} inputs")
    if not 1 <= len(node.outputs) <= operator.outputs_max or not node.outputs[0]:
        raise DecodeError(f"graph: {node.operator} with {len(node.outputs)} outputs")
    for name, value in node.attributes.items():
        kind = operator.attributes.get(name)
        if kind is None or type(value) is not _KINDS[kind]:
            raise DecodeError(f"graph: {node.operator}.{name[:80]} is refused")
        _check_attribute(f"{node.operator}.{name}", name, value)
    if node.operator == "Einsum":
        _check_equation(node)
    # A `Split` says twice how many parts it makes.
    if node.attributes.get("num_outputs", len(node.outputs)) != len(node.outputs):
        raise DecodeError(f"graph: {node.operator} with {len(node.outputs)} outputs")


def _check_equation(node: GraphNode) -> None:
    """Letters for the axes of each input, none twice, and a result of some of them.

    With more inputs than terms ONNX Runtime reads memory that is not its own.
    """
    terms, arrow, result = str(node.attributes.get("equation")).partition("->")
    left = [term.replace(" ", "") for term in terms.split(",")]
    found = [*left, result.replace(" ", "")]
    letters = set("".join(left))
    spelt = all(_is_row(term) for term in found) and letters.issuperset(found[-1])
    if not arrow or not spelt or len(left) != len(node.inputs):
        raise DecodeError(f"graph: Einsum at {node.name[:80]!r} is refused")


def _is_row(term: str) -> bool:
    plain = term.isascii() and (term.isalpha() or not term)
    return plain and len(set(term)) == len(term)


def _check_attribute(place: str, name: str, value: Attribute) -> None:
    if isinstance(value, float):
        return
    if isinstance(value, str):
        if name in _TEXTS and value not in _TEXTS[name]:
            raise DecodeError(f"graph: {place} is {value[:80]!r}")
        return
    numbers = value if isinstance(value, tuple) else (value,)
    if len(numbers) > NUMBERS_MAX:
        raise LimitError(f"graph: {place}: {len(numbers)} numbers")
    least, most = _RANGES.get(name, (-NUMBER_MAX, NUMBER_MAX))
    if not all(least <= number <= most for number in numbers):
        raise LimitError(f"graph: {place} lies beyond {least} to {most}")


def _check_names(graph: Graph) -> None:
    """One maker for each value, before its readers."""
    made: set[str] = set()
    for port in graph.inputs:
        _make(port.name, made)
    for tensor in graph.tensors:
        _make(tensor.name, made)
    edges = 0
    for node in graph.nodes:
        # The bound on nodes is none on edges: a `Concat` may read thousands of values.
        edges += len(node.inputs) + len(node.outputs)
        if edges > EDGES_MAX:
            raise LimitError(f"graph: more than {EDGES_MAX} inputs and outputs")
        for name in node.inputs:
            if name and name not in made:
                raise DecodeError(f"graph: nothing makes {name[:80]!r} before its use")
        for name in node.outputs:
            if name:
                _make(name, made)
    shown = [port.name for port in graph.outputs]
    if len(set(shown)) < len(shown) or not made.issuperset(shown):
        raise DecodeError("graph: an output twice, or one that nothing makes")


def _make(name: str, made: set[str]) -> None:
    if not name or name in made:
        raise DecodeError(f"graph: {name[:80]!r} is made twice, or has no name")
    made.add(name)
