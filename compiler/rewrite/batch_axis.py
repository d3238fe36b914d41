"""Rewrites a model so that the batch is the first axis of every value.

Most models are so already and pass unchanged. Where the batch stands elsewhere (see
`layout`), each operator is given the axes under which its values are kept. One that
would read several examples at once is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import Shape
from starling.compiler.ir.network import Array, NetworkNode
from starling.compiler.rewrite.batch_layout import BatchLayout
from starling.compiler.rewrite.shape_inference import Extent

_BROADCASTING_NAMES = (
    "Add And Div Equal Expand Greater GreaterOrEqual Less LessOrEqual Max Min Mul Or "
    "Pow PRelu Sub Sum Where"
)
BROADCASTING = frozenset(_BROADCASTING_NAMES.split())
RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_ELEMENTWISE_NAMES = (
    "Abs Cast Ceil Celu Clip Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
    "Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu "
    "Sigmoid Sign Softplus Softsign Sqrt Tanh"
)
_ELEMENTWISE = frozenset(_ELEMENTWISE_NAMES.split())
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
_ENDLESS = (1 << 31) - 1
"""From here on a stop means the end, as exporters write it."""


class Rewriter:
    """The model in the making: nodes, constants and the shapes that are kept."""

    def __init__(
        self, extents: Mapping[str, Extent], constants: Mapping[str, Array], entry: str
    ) -> None:
        self.nodes: list[NetworkNode] = []
        self.constants = dict(constants)
        self.layouts: dict[str, BatchLayout] = {}
        self.extents = extents
        self.made: dict[str, Shape] = {}
        self._count = 0
        extent = extents[entry]
        assert extent.batch is not None
        self.layouts[entry] = BatchLayout(extent.sizes, extent.batch)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of every value that is kept."""
        static = {
            name: extent.sizes
            for name, extent in self.extents.items()
            if extent.batch is None
        }
        batched = {name: layout.shape for name, layout in self.layouts.items()}
        return {**static, **batched, **self.made}

    def add(self, node: NetworkNode) -> None:
        """Rewrites one node, whose inputs have been seen.

        Raises:
          CompileError: If it has no known shape, or would mix examples.
        """
        extents = [self.extents.get(name) for name in node.outputs if name]
        if not extents or extents[0] is None:
            raise CompileError(
                f"{node.label}: its output has no known shape; export the model with "
                "fixed sizes but for the batch",
                (node.name,),
            )
        batched = [name for name in node.inputs if name in self.layouts]
        plain = all(self.layouts[name].plain for name in batched)
        if node.kind in BROADCASTING:
            _broadcasting(self, node)
        elif node.kind in _RECURRENT:
            _recurrent(self, node)
        elif plain and all(e is None or e.plain or e.batch is None for e in extents):
            self.keep(node)
        else:
            _HANDLERS.get(node.kind, _refused)(self, node)

    def keep(self, node: NetworkNode, *layouts: BatchLayout) -> None:
        """Takes a node over; its outputs are kept as told, or as in the model."""
        self.nodes.append(node)
        for index, name in enumerate([name for name in node.outputs if name]):
            extent = self.extents.get(name)
            if extent is None or extent.batch is None:
                continue
            layout = layouts[min(index, len(layouts) - 1)] if layouts else None
            self.layouts[name] = layout or BatchLayout(extent.sizes, extent.batch)

    def constant(self, values: Sequence[int]) -> str:
        """The name of a new vector of integers."""
        name = self._fresh("integers")
        self.constants[name] = np.array(values, np.int64)
        self.made[name] = (len(values),)
        return name

    def reshaped(self, name: str, shape: Shape) -> str:
        """The name of a value in another shape of the kept kind."""
        if self.shape(name) == shape:
            return name
        made = self._fresh(name)
        self.nodes.append(NetworkNode("Reshape", made, (name,), (made,), {}))
        self.made[made] = shape
        return made

    def shape(self, name: str) -> Shape:
        """The shape under which a value is kept."""
        if name in self.made:
            return self.made[name]
        if name in self.layouts:
            return self.layouts[name].shape
        return self.extents[name].sizes

    def output(self, node: NetworkNode) -> Extent:
        """The first output's shape in the model."""
        return self.extents[node.outputs[0]]

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}/kept{self._count}"


def refuse(node: NetworkNode) -> CompileError:
    """The error for a node that reads several examples at once."""
    return CompileError(f"{node.label}: mixes the examples of a batch", (node.name,))


def _refused(rewriter: Rewriter, node: NetworkNode) -> None:
    if any(name in rewriter.layouts for name in node.inputs):
        extent = rewriter.output(node)
        if extent.batch is None:
            raise refuse(node)
    raise CompileError(
        f"{node.label}: needs the batch as the first axis of its input", (node.name,)
    )


def _same(rewriter: Rewriter, node: NetworkNode) -> None:
    rewriter.keep(node, rewriter.layouts[node.inputs[0]])


def _broadcasting(rewriter: Rewriter, node: NetworkNode) -> None:
    """Lines the inputs up with the output, axis by axis from the last."""
    extent = rewriter.output(node)
    batched = [name for name in node.inputs if name in rewriter.layouts]
    if extent.batch is None:
        if batched:
            raise refuse(node)
        rewriter.keep(node)
        return
    layout = BatchLayout(extent.sizes, extent.batch, _before(rewriter, node, batched))
    names = [_aligned(rewriter, node, name, layout) for name in node.inputs if name]
    rewriter.keep(replace(node, inputs=tuple(names)), layout)


def _before(rewriter: Rewriter, node: NetworkNode, batched: Sequence[str]) -> int:
    inside = {
        rewriter.layouts[name].before
        for name in batched
        if rewriter.layouts[name].sizes[rewriter.layouts[name].batch] > 1
    }
    if len(inside) > 1:
        raise refuse(node)
    return inside.pop() if inside else 1


def _aligned(
    rewriter: Rewriter, node: NetworkNode, name: str, layout: BatchLayout, tail: int = 0
) -> str:
    """An input in a shape that broadcasts against the kept output.

    Args:
      rewriter: Holds the values.
      node: Whose input it is.
      name: Of the input.
      layout: Of the output.
      tail: Number of last axes that do not broadcast (those of a matrix product).
    """
    mine = rewriter.layouts.get(name)
    sizes = mine.sizes if mine else rewriter.extents[name].sizes
    lead = len(layout.sizes) - len(sizes)
    if mine is not None and mine.batch + lead != layout.batch:
        raise refuse(node)
    if mine is None and len(sizes) + tail == 0:
        return name
    shape: list[int] = []
    for axis, parts in enumerate(layout.parts):
        size = sizes[axis - lead] if axis >= lead else 1
        if axis >= len(layout.sizes) - tail:
            shape.append(size)
        elif axis == layout.batch and mine is not None:
            shape += parts if size > 1 else (1,) * len(parts)
        elif axis == layout.batch and size != 1:
            raise refuse(node)
        else:
            shape += (size,) * len(parts)
    if mine is not None:
        return rewriter.reshaped(name, (None, *shape))
    if layout.plain or not sizes:
        return name
    return rewriter.reshaped(name, (1, *shape))


def _reshape(rewriter: Rewriter, node: NetworkNode) -> None:
    source = rewriter.layouts.get(node.inputs[0])
    target = source and source.regrouped(rewriter.output(node))
    if target is None:
        raise refuse(node)
    rewriter.keep(replace(node, kind="Reshape", attributes={}), target)


def _transpose(rewriter: Rewriter, node: NetworkNode) -> None:
    source = rewriter.layouts[node.inputs[0]]
    rank = len(source.sizes)
    order = list(node.attributes.get("perm", range(rank - 1, -1, -1)))
    target = BatchLayout(
        tuple([source.sizes[axis] for axis in order]),
        order.index(source.batch),
        source.before,
    )
    kept = [0, *[place for axis in order for place in source.places(axis)]]
    rewriter.keep(replace(node, attributes={"perm": kept}), target)


def _matmul(rewriter: Rewriter, node: NetworkNode) -> None:
    """Outer axes broadcast; the batch may also be the rows of the left factor."""
    extent = rewriter.output(node)
    left, right = [rewriter.layouts.get(name) for name in node.inputs]
    if extent.batch is None:
        raise refuse(node)
    layout = BatchLayout(
        extent.sizes, extent.batch, _before(rewriter, node, _batched(rewriter, node))
    )
    rank = len(extent.sizes)
    weight = rewriter.shape(node.inputs[1])
    if left is not None and right is None and len(weight) == 2:
        if left.batch == len(left.sizes) - 1:
            raise refuse(node)
        rewriter.keep(node, layout)
        return
    for side in (left, right):
        if side is not None and side.batch >= len(side.sizes) - 2:
            raise refuse(node)
    if extent.batch >= rank - 2:
        raise refuse(node)
    names = [_aligned(rewriter, node, name, layout, tail=2) for name in node.inputs]
    rewriter.keep(replace(node, inputs=tuple(names)), layout)


def _batched(rewriter: Rewriter, node: NetworkNode) -> list[str]:
    return [name for name in node.inputs if name in rewriter.layouts]


def _gemm(rewriter: Rewriter, node: NetworkNode) -> None:
    """The rows of the left factor are examples and positions in one axis."""
    source = rewriter.layouts.get(node.inputs[0])
    if source is None or source.batch != 0 or node.attributes.get("transA", 0):
        raise refuse(node)
    if any(name in rewriter.layouts for name in node.inputs[1:]):
        raise refuse(node)
    extent = rewriter.output(node)
    rewriter.keep(node, BatchLayout(extent.sizes, 0, source.before))


def _along_axis(rewriter: Rewriter, node: NetworkNode) -> None:
    """Operators with an attribute `axis`, which may not be the batch."""
    first = _batched(rewriter, node)[0]
    source = rewriter.layouts[first]
    place = source.place(node.attributes.get("axis", _AXIS.get(node.kind, -1)))
    normalised = node.kind == "LayerNormalization"
    if place is None or (normalised and place < len(source.shape) - 1):
        raise refuse(node)
    layouts = []
    for name in [name for name in node.outputs if name]:
        extent = rewriter.extents[name]
        assert extent.batch is not None
        layouts.append(BatchLayout(extent.sizes, extent.batch, source.before))
    attributes = {**node.attributes, "axis": place}
    rewriter.keep(replace(node, attributes=attributes), *layouts)


_AXIS = {"Gather": 0, "Split": 0}


def _gather(rewriter: Rewriter, node: NetworkNode) -> None:
    indices = rewriter.layouts.get(node.inputs[1])
    if indices is None:
        _along_axis(rewriter, node)
        return
    axis = node.attributes.get("axis", 0)
    if node.inputs[0] in rewriter.layouts or axis != 0:
        raise refuse(node)
    extent = rewriter.output(node)
    assert extent.batch is not None
    rewriter.keep(node, BatchLayout(extent.sizes, extent.batch, indices.before))


def _reduce(rewriter: Rewriter, node: NetworkNode) -> None:
    source = rewriter.layouts[node.inputs[0]]
    axes = node.attributes.get("axes")
    if len(node.inputs) > 1 and node.inputs[1]:
        axes = rewriter.constants[node.inputs[1]].tolist()
    if axes is None:
        raise refuse(node)
    places = [source.place(axis) for axis in axes]
    extent = rewriter.output(node)
    if None in places or extent.batch is None:
        raise refuse(node)
    attributes = {k: v for k, v in node.attributes.items() if k != "axes"}
    made = rewriter.constant([place for place in places if place is not None])
    changed = replace(node, inputs=(node.inputs[0], made), attributes=attributes)
    rewriter.keep(changed, BatchLayout(extent.sizes, extent.batch, source.before))


def _slice(rewriter: Rewriter, node: NetworkNode) -> None:
    source = rewriter.layouts[node.inputs[0]]
    bounds = [rewriter.constants.get(name) for name in node.inputs[1:]]
    if any(bound is None for bound in bounds[:2]):
        raise refuse(node)
    starts, stops = [bound.tolist() for bound in bounds[:2] if bound is not None]
    axes = bounds[2].tolist() if len(bounds) > 2 and bounds[2] is not None else None
    steps = bounds[3].tolist() if len(bounds) > 3 and bounds[3] is not None else None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    rows = []
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        place = source.place(axis)
        if place is not None:
            rows.append((start, stop, place, step))
        elif (start, step) != (0, 1) or stop < _ENDLESS:
            raise refuse(node)
    names = [rewriter.constant(list(column)) for column in zip(*rows, strict=True)]
    extent = rewriter.output(node)
    assert extent.batch is not None
    layout = BatchLayout(extent.sizes, extent.batch, source.before)
    kind = "Slice" if rows else "Identity"
    rewriter.keep(replace(node, kind=kind, inputs=(node.inputs[0], *names)), layout)


def _recurrent(rewriter: Rewriter, node: NetworkNode) -> None:
    """Their rules take (n, time, ...) and (n, directions, ...)."""
    source = rewriter.layouts.get(node.inputs[0])
    time = node.attributes.get("layout", 0)
    if source is None or source.batch != 1 - time or source.sizes[source.batch] != 1:
        raise CompileError(
            f"{node.label}: the batch is not where the operator expects it",
            (node.name,),
        )
    rewriter.keep(node)


_HANDLERS: dict[str, Callable[[Rewriter, NetworkNode], None]] = {
    **dict.fromkeys(_ELEMENTWISE, _same),
    **dict.fromkeys(RESHAPING, _reshape),
    **dict.fromkeys(
        ("Concat", "LayerNormalization", "LogSoftmax", "Softmax", "Split"), _along_axis
    ),
    **dict.fromkeys(("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin"), _reduce),
    **dict.fromkeys(("ReduceSum", "ReduceSumSquare"), _reduce),
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Slice": _slice,
    "Transpose": _transpose,
}
