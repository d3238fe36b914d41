"""Rewrites a model so that the batch is the first axis of every value.

Most models are so already and pass unchanged. Where the batch stands elsewhere (see
`batch_layout`), each operator is given the axes under which its values are kept. One
that would read several examples at once is refused.
"""

from collections.abc import Callable
from dataclasses import replace

from starling.compiler.errors import CompileError
from starling.compiler.ir.network import NetworkNode
from starling.compiler.rewrite.batch import axis_operators, batch_parts
from starling.compiler.rewrite.batch.batch_layout import BatchLayout
from starling.compiler.rewrite.batch.batch_rewriter import RewrittenGraph, refuse
from starling.compiler.rewrite.batch.col2im import lowered
from starling.compiler.rewrite.batch.constant_indexing import computed, indexing
from starling.compiler.rewrite.batch.folded_parts import fold
from starling.compiler.rewrite.batch.spectral_operators import transforms

_BROADCASTING_NAMES = (
    "Add And Div Equal Expand Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod "
    "Mul Or Pow PRelu Sub Sum Where Xor"
)
BROADCASTING = frozenset(_BROADCASTING_NAMES.split())
RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_ELEMENTWISE_NAMES = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf "
    "Exp Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg "
    "Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign "
    "Sqrt Swish Tan Tanh ThresholdedRelu"
)
_ELEMENTWISE = frozenset(_ELEMENTWISE_NAMES.split())
REWRITTEN = frozenset({"Col2Im", "DFT", "GatherND", "LRN", "STFT", "ScatterND"})
"""Operators that others take the place of here, so that they need no rule."""
_WHOLE = (indexing, lowered, transforms)
"""Steps that may take a node over before its operator's own is asked."""
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
_REDUCTION_NAMES = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"
_REDUCTIONS = tuple([f"Reduce{name}" for name in _REDUCTION_NAMES.split()])
_ALONG = (
    "ArgMax ArgMin Concat GatherElements Hardmax LayerNormalization LogSoftmax "
    "LpNormalization Softmax Split TopK"
)


class Rewriter(RewrittenGraph):
    """Rewrites a model node by node."""

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
        plain = all(self.layouts[name].plain for name in self.batched(node))
        if node.outputs[0] in self.repeated:
            self.repeat(node.outputs[0])
        elif any(step(self, node) for step in _WHOLE):
            pass
        elif node.kind == "GatherND":
            computed(self, node)
        # Steps have had their chance: what is left of these operators has no rule in
        # training graphs.
        elif node.kind in REWRITTEN or self._counted(node):
            raise self._unknown(node)
        # Before the shortcut for plain values: an input that is a number of the batch's
        # size is no value that a training graph could feed.
        elif self.counts.keys() & {*node.inputs}:
            _TAKING_APART[node.kind](self, node)
        elif node.kind in BROADCASTING:
            _broadcasting(self, node)
        elif node.kind in _RECURRENT:
            _recurrent(self, node)
        elif plain and all(e is None or e.plain or e.batch is None for e in extents):
            self.keep(node)
        else:
            _HANDLERS.get(node.kind, _parts)(self, node)

    def _unknown(self, node: NetworkNode) -> CompileError:
        """The error for a node whose places or values are not known in advance."""
        name = self._counted(node)
        detail = (
            "its places are computed, from what is fed or trained; write it with "
            "places that are constant, or with Where and a mask"
        )
        if node.kind not in REWRITTEN:
            detail = (
                f"reads {name!r}, a constant that differs from example to example; "
                "feed it as part of the input, or make it the same for all"
            )
        return CompileError(f"{node.label}: {detail}", (node.name,))

    def _counted(self, node: NetworkNode) -> str:
        """An input that counts through the batch, which is no value."""
        for name in node.inputs:
            if name in self.repeated and name not in self.layouts:
                return name
        return ""


def _parts(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Any other operator, whose batch axis may hold several parts of an example."""
    names = kept.batched(node)
    # A rule that keeps the rows of its batch axis apart keeps parts of an example apart
    # as well; so several parts are one larger batch.
    if names and all(kept.layouts[name].batch == 0 for name in names):
        fold(kept, node)
        return
    if names and kept.output(node).batch is None:
        raise refuse(node)
    raise CompileError(
        f"{node.label}: needs the batch as the first axis of its input; turn its "
        "input round before it",
        (node.name,),
    )


def _same(kept: RewrittenGraph, node: NetworkNode) -> None:
    kept.keep(node, kept.layouts[node.inputs[0]])


def _broadcasting(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Lines the inputs up with the output, axis by axis from the last."""
    extent, batched = kept.output(node), kept.batched(node)
    if extent.batch is None:
        if batched:
            raise refuse(node)
        kept.keep(node)
        return
    copied = node.kind == "Expand" and not batched and extent.sizes[extent.batch] > 1
    if copied and kept.shape(node.inputs[0]) == extent.sizes:
        # Rows that are written once for each example: all of them stand in its own.
        source = kept.reshaped(node.inputs[0], (1, *extent.sizes))
        kept.keep(
            replace(node, inputs=(source,)), BatchLayout(extent.sizes, extent.batch)
        )
        return
    layout = BatchLayout(extent.sizes, extent.batch, kept.before(node, batched))
    names = [kept.aligned(node, name, layout) for name in node.inputs if name]
    kept.keep(replace(node, inputs=tuple(names)), layout)


def _reshape(kept: RewrittenGraph, node: NetworkNode) -> None:
    source = kept.layouts.get(node.inputs[0])
    target = source and source.regrouped(kept.output(node))
    if target is None:
        raise refuse(node)
    kept.keep(replace(node, kind="Reshape", attributes={}), target)


def _matmul(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Outer axes broadcast; the batch may also be the rows of the left factor."""
    extent = kept.output(node)
    left, right = [kept.layouts.get(name) for name in node.inputs]
    if extent.batch is None:
        raise refuse(node)
    layout = BatchLayout(
        extent.sizes, extent.batch, kept.before(node, kept.batched(node))
    )
    rank = len(extent.sizes)
    weight = kept.shape(node.inputs[1])
    # A matrix on the right acts on the last axis alone, so that the batch may be any
    # other, the rows of the product too.
    if left is not None and right is None and len(weight) == 2:
        if left.batch == len(left.sizes) - 1:
            raise refuse(node)
        kept.keep(node, layout)
        return
    # As rows or columns of a product of two values, examples would meet.
    for side in (left, right):
        if side is not None and side.batch >= len(side.sizes) - 2:
            raise refuse(node)
    if extent.batch >= rank - 2:
        raise refuse(node)
    names = [kept.aligned(node, name, layout, tail=2) for name in node.inputs]
    kept.keep(replace(node, inputs=tuple(names)), layout)


def _gemm(kept: RewrittenGraph, node: NetworkNode) -> None:
    """The rows of the left factor are examples and positions in one axis."""
    source = kept.layouts.get(node.inputs[0])
    if source is None or source.batch != 0 or node.attributes.get("transA", 0):
        raise refuse(node)
    if any(name in kept.layouts for name in node.inputs[1:]):
        raise refuse(node)
    extent = kept.output(node)
    kept.keep(node, BatchLayout(extent.sizes, 0, source.before))


def _recurrent(kept: RewrittenGraph, node: NetworkNode) -> None:
    """Their rules take (n, time, ...) and (n, directions, ...)."""
    source = kept.layouts.get(node.inputs[0])
    time = node.attributes.get("layout", 0)
    # With layout 0 ONNX has (time, batch, ...), with layout 1 (batch, time, ...).
    if source is None or source.batch != 1 - time:
        raise CompileError(
            f"{node.label}: the batch is not where the operator expects it; say "
            "batch_first=True, or turn its input round before it",
            (node.name,),
        )
    if source.sizes[source.batch] == 1:
        kept.keep(node)
    else:
        fold(kept, node, anywhere=True)


def _sized_slices(kept: RewrittenGraph, node: NetworkNode) -> None:
    """A Slice that the batch's size tells where to cut: all of it, or whole parts."""
    others = batch_parts.along_others(kept, node)
    if others is None:
        batch_parts.slices(kept, node)
    else:
        axis_operators.slices(kept, others)


def _triangle(kept: RewrittenGraph, node: NetworkNode) -> None:
    """The last two axes stay the last two."""
    layout = kept.layouts[node.inputs[0]]
    if layout.batch >= len(layout.sizes) - 2:
        raise refuse(node)
    kept.keep(node, layout)


_TAKING_APART = {"Slice": _sized_slices, "Split": batch_parts.split}
"""Operators that the size of the batch may tell where to cut."""
_HANDLERS: dict[str, Callable[[RewrittenGraph, NetworkNode], None]] = {
    **dict.fromkeys(_ELEMENTWISE, _same),
    **dict.fromkeys(RESHAPING, _reshape),
    **dict.fromkeys(_ALONG.split(), axis_operators.along_axis),
    **dict.fromkeys(_REDUCTIONS, axis_operators.reduce),
    "CumSum": axis_operators.cumulative,
    "Einsum": axis_operators.einsum,
    "Gather": axis_operators.gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Pad": axis_operators.pad,
    "Slice": axis_operators.slices,
    "Tile": axis_operators.tile,
    "Transpose": axis_operators.transpose,
    "Trilu": _triangle,
}
