"""Shapes of weights that ONNX's own inference leaves unchecked.

A recurrent layer whose weights contradict each other, a gain of another width than
what it scales, a kernel unlike its attribute: such a file would compile into a bundle
that cannot run, or that trains another model.

Source: onnx/defs of operator set 18.
"""

from collections.abc import Callable, Mapping, Sequence

from starling.compiler.errors import CompileError
from starling.compiler.ir.network import NetworkNode
from starling.compiler.rewrite.shape_inference import Extent

_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
_Sizes = tuple[int, ...]
_Expected = Mapping[int, tuple[_Sizes, ...]]
"""Position of an input to the shapes that it may have; 0 stands for any size."""


def check_operands(nodes: Sequence[NetworkNode], extents: Mapping[str, Extent]) -> None:
    """Refuses nodes whose weights or states do not fit each other.

    Raises:
      CompileError: Naming the node, what it has and what it needs.
    """
    for node in nodes:
        rule = _RULES.get(node.kind)
        sizes = [_sizes(extents, name) for name in node.inputs]
        # What is unknown is left to the trial run.
        if rule is None or not sizes or sizes[0] is None:
            continue
        for position, shapes in rule(node, sizes).items():
            found = sizes[position] if position < len(sizes) else None
            if found is not None and not any(_fits(found, s) for s in shapes):
                wanted = " or ".join([_shown(shape) for shape in shapes[:2]])
                raise CompileError(
                    f"{node.label}: its input {node.inputs[position]!r} has the shape "
                    f"{_shown(found)}, and its other inputs ask for {wanted}"
                    f"{_hint(node, position)}",
                    (node.name,),
                )


def _sizes(extents: Mapping[str, Extent], name: str) -> _Sizes | None:
    """Sizes of a value, 0 for the batch axis; None if nothing is known of it."""
    extent = extents.get(name)
    if extent is None:
        return None
    return tuple(
        [0 if axis == extent.batch else size for axis, size in enumerate(extent.sizes)]
    )


def _shown(sizes: _Sizes) -> str:
    return f"({', '.join([str(size) if size else 'n' for size in sizes])})"


def _fits(found: _Sizes, wanted: _Sizes) -> bool:
    return len(found) == len(wanted) and all(
        0 in pair or pair[0] == pair[1] for pair in zip(found, wanted, strict=True)
    )


def _hint(node: NetworkNode, position: int) -> str:
    states = node.kind in _GATES and position in (5, 6)
    return "; PyTorch's proj_size has no form in ONNX" if states else ""


def _recurrent(node: NetworkNode, sizes: Sequence[_Sizes | None]) -> _Expected:
    x, recurrence = sizes[0] or (), sizes[2] if len(sizes) > 2 else None
    if len(x) != 3 or not recurrence or len(recurrence) != 3:
        return {}
    ways = 2 if node.attributes.get("direction") == b"bidirectional" else 1
    hidden = node.attributes.get("hidden_size", recurrence[2])
    wide = _GATES[node.kind] * hidden
    state = (0, ways, hidden) if node.attributes.get("layout", 0) else (ways, 0, hidden)
    return {
        1: ((ways, wide, x[2]),),
        2: ((ways, wide, hidden),),
        3: ((ways, 2 * wide),),
        5: (state,),
        6: (state,),
    }


def _layer(node: NetworkNode, sizes: Sequence[_Sizes | None]) -> _Expected:
    x = sizes[0] or ()
    tail = x[node.attributes.get("axis", -1) % max(len(x), 1) :]
    return {
        at: (tail,)
        for at, found in enumerate(sizes)
        if at > 0 and found is not None and not _repeats(found, x)
    }


def _repeats(found: _Sizes, x: _Sizes) -> bool:
    """True if a gain is repeated along axes, as everything that is multiplied."""
    pairs = list(zip(found[::-1], x[::-1], strict=False))
    return len(pairs) == len(found) and all(a in (1, b) for a, b in pairs)


def _channels(node: NetworkNode, sizes: Sequence[_Sizes | None]) -> _Expected:
    x = sizes[0] or ()
    groups = node.attributes.get("num_groups", 0)
    wanted = ((x[1],), *(((groups,),) if groups else ())) if len(x) > 1 else ()
    return {1: wanted, 2: wanted} if wanted else {}


def _kernel(node: NetworkNode, sizes: Sequence[_Sizes | None]) -> _Expected:
    kernel = node.attributes.get("kernel_shape")
    rank = len(sizes[0] or ()) - 2
    return {1: ((0, 0, *kernel),)} if kernel and len(kernel) == rank else {}


_RULES: Mapping[str, Callable[[NetworkNode, Sequence[_Sizes | None]], _Expected]] = {
    **dict.fromkeys(_GATES, _recurrent),
    "Conv": _kernel,
    "ConvTranspose": _kernel,
    "GroupNormalization": _channels,
    "InstanceNormalization": _channels,
    "LayerNormalization": _layer,
}
