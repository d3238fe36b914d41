"""Writes ONNX graphs node by node, and knows the shape of every value.

Letters: `n` examples in a batch, not known when the graph is written. A shape is a
tuple whose entries are integers; the first one is None where a value has one row for
each example, and such a value is called batched. All others are static.

Equal nodes are written once: two calls of the same operator with the same inputs and
attributes return the same value, so rules may ask for what they need without keeping
track of what others computed. Nodes that lead to no output are left out at the end.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_writer import (
    Attribute,
    NodeDraft,
    Shape,
    serialised,
    value_info,
)
from starling.engine.onnx_reader import NODES_MAX
from starling.protocol.privacy.clipping_functions import SUM_BLOCK

HELD_STEM = "held_"
"""How names of values begin that count as constants where slopes are taken."""


@dataclass(frozen=True)
class BuilderTensor:
    """A value of the graph.

    Attributes:
      name: Its name in the graph.
      shape: See the module's text.
    """

    name: str
    shape: Shape

    @property
    def batched(self) -> bool:
        """True if it has one row for each example."""
        return bool(self.shape) and self.shape[0] is None

    @property
    def row(self) -> tuple[int, ...]:
        """The static part of the shape: of one example if batched, of all if not."""
        return tuple([size for size in self.shape if size is not None])

    @property
    def row_size(self) -> int:
        """Number of values in `row`."""
        return math.prod(self.row)


class GraphBuilder:
    """One graph in the making."""

    def __init__(self) -> None:
        self._calls: list[NodeDraft] = []
        self._known: dict[object, tuple[BuilderTensor, ...]] = {}
        self._sources: dict[str, tuple[str, BuilderTensor]] = {}
        self._constants: dict[str, NDArray[np.generic]] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._counted: BuilderTensor | None = None
        self._count = 0

    def input(self, name: str, shape: Shape, dtype: str) -> BuilderTensor:
        """Declares an input of the graph; a batched one has the axis `n` first."""
        self._inputs.append(value_info(name, shape, dtype))
        return BuilderTensor(name, shape)

    @contextmanager
    def counting(self, tensor: BuilderTensor) -> Iterator[None]:
        """Lets the rows of a tensor be the batch, in place of those of x."""
        outer, self._counted = self._counted, tensor
        try:
            yield
        finally:
            self._counted = outer

    def constant(self, array: NDArray[np.generic]) -> BuilderTensor:
        """A constant tensor, kept once however often it is asked for."""
        # Reshaped, since numpy makes one axis of a scalar that it lays out.
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            tensor = BuilderTensor(self._fresh("constant"), array.shape)
            self._constants[tensor.name] = array
            self._known[key] = (tensor,)
        return self._known[key][0]

    def scalar(self, value: float) -> BuilderTensor:
        """A float32 constant of shape ()."""
        return self.constant(np.array(value, np.float32))

    def integers(self, *values: int) -> BuilderTensor:
        """A vector of int64 constants, as shapes and axes are given."""
        return self.constant(np.array(values, np.int64))

    def op(
        self,
        kind: str,
        inputs: Sequence[BuilderTensor | None],
        shape: Shape,
        **attributes: Attribute,
    ) -> BuilderTensor:
        """Calls an operator with one output.

        Args:
          kind: Its name in the default domain.
          inputs: None stands for an optional input that is left out.
          shape: Of the output; the caller knows it.
          **attributes: As the operator defines them.
        """
        return self.ops(kind, inputs, (shape,), **attributes)[0]

    def ops(
        self,
        kind: str,
        inputs: Sequence[BuilderTensor | None],
        shapes: Sequence[Shape],
        **attributes: Attribute,
    ) -> tuple[BuilderTensor, ...]:
        """Calls an operator with several outputs; see `op`."""
        names = tuple(["" if item is None else item.name for item in inputs])
        # By text, since attributes may be lists, which have no hash.
        key = (kind, names, len(shapes), repr(sorted(attributes.items())))
        if key not in self._known:
            stem = kind.lower()
            tensors = tuple(
                [BuilderTensor(self._fresh(stem), shape) for shape in shapes]
            )
            outputs = tuple([tensor.name for tensor in tensors])
            self._calls.append(NodeDraft(kind, names, outputs, attributes))
            self._known[key] = tensors
            if inputs and inputs[0] is not None:
                self._sources[outputs[0]] = (kind, inputs[0])
        return self._known[key]

    def unary(
        self, kind: str, tensor: BuilderTensor, **attributes: Attribute
    ) -> BuilderTensor:
        """An operator that keeps the shape of its only input."""
        return self.op(kind, (tensor,), tensor.shape, **attributes)

    def binary(
        self, kind: str, left: BuilderTensor, right: BuilderTensor
    ) -> BuilderTensor:
        """An operator on two tensors that broadcast against each other.

        A tensor that was only repeated to the other's shape goes in as it was before.
        """
        shape = broadcast(left.shape, right.shape)
        left = self._unexpanded(left, right, shape)
        right = self._unexpanded(right, left, shape)
        return self.op(kind, (left, right), shape)

    def add(self, left: BuilderTensor, right: BuilderTensor) -> BuilderTensor:
        """The sum, with broadcasting."""
        return self.binary("Add", left, right)

    def mul(self, left: BuilderTensor, right: BuilderTensor) -> BuilderTensor:
        """The product element by element, with broadcasting."""
        return self.binary("Mul", left, right)

    def matmul(self, left: BuilderTensor, right: BuilderTensor) -> BuilderTensor:
        """The matrix product over the last two axes; both have rank 2 or more."""
        outer = broadcast(left.shape[:-2], right.shape[:-2])
        return self.op(
            "MatMul", (left, right), (*outer, left.shape[-2], right.shape[-1])
        )

    def reshape(self, tensor: BuilderTensor, shape: Shape) -> BuilderTensor:
        """The same values in another shape; the batch axis stays where it is."""
        kind, source = self._sources.get(tensor.name, ("", tensor))
        # A reshape of a reshape needs the first value alone, and the node between falls
        # out.
        if kind == "Reshape":
            tensor = source
        if shape == tensor.shape:
            return tensor
        sizes = [-1 if size is None else size for size in shape]
        return self.op("Reshape", (tensor, self.integers(*sizes)), shape)

    def flat(self, tensor: BuilderTensor) -> BuilderTensor:
        """(n, size) of a batched tensor, (size,) of a static one."""
        size = tensor.row_size
        return self.reshape(tensor, (None, size) if tensor.batched else (size,))

    def ravel(self, tensor: BuilderTensor) -> BuilderTensor:
        """All values of the whole batch in one row of unknown length."""
        return self.op("Reshape", (tensor, self.integers(-1)), (None,))

    def transpose(self, tensor: BuilderTensor, order: Sequence[int]) -> BuilderTensor:
        """Axis `i` of the result is axis `order[i]` of the tensor."""
        if list(order) == list(range(len(tensor.shape))):
            return tensor
        shape = tuple([tensor.shape[axis] for axis in order])
        return self.op("Transpose", (tensor,), shape, perm=list(order))

    def swap(self, tensor: BuilderTensor) -> BuilderTensor:
        """Exchanges the last two axes."""
        rank = len(tensor.shape)
        return self.transpose(tensor, [*range(rank - 2), rank - 1, rank - 2])

    def reduce(
        self,
        kind: str,
        tensor: BuilderTensor,
        axes: Sequence[int],
        *,
        keep: bool = False,
    ) -> BuilderTensor:
        """Reduces over axes (not negative); `keep` leaves them with size 1."""
        if not axes:
            return tensor
        shape = tuple(
            [
                1 if axis in axes else size
                for axis, size in enumerate(tensor.shape)
                if keep or axis not in axes
            ]
        )
        return self.op(kind, (tensor, self.integers(*axes)), shape, keepdims=int(keep))

    def squares(self, tensor: BuilderTensor) -> BuilderTensor:
        """(n,): the sum of the squares of each example's values, block by block.

        A product and a sum take a third of the time of ReduceSumSquare. How few
        additions each square goes through decides how much of a clip is given up for
        rounding (`protocol.privacy.clipping_functions.sum_depth`).
        """
        flat = self.flat(tensor)
        return self._added_up(self.mul(flat, flat))

    def _added_up(self, rows: BuilderTensor) -> BuilderTensor:
        """(n,): the sum of each row, in blocks if it is long."""
        size = rows.row_size
        if size <= 2 * SUM_BLOCK:
            return self.reduce("ReduceSum", rows, [1])
        # Blocks of one width need a single reshape and no copy of the values.
        width = next(w for w in range(2 * SUM_BLOCK, 0, -1) if size % w == 0)
        # Narrow blocks would add the partial sums up in many more levels, so a rest is
        # cut off.
        if width < SUM_BLOCK // 2:
            whole = size // SUM_BLOCK * SUM_BLOCK
            parts = [self.slice(rows, 1, 0, whole), self.slice(rows, 1, whole, size)]
            return self.add(*[self._added_up(part) for part in parts])
        blocks = self.reshape(rows, (None, size // width, width))
        return self._added_up(self.reduce("ReduceSum", blocks, [2]))

    def concat(self, tensors: Sequence[BuilderTensor], axis: int) -> BuilderTensor:
        """Joins tensors along an axis."""
        if len(tensors) == 1:
            return tensors[0]
        shape = list(tensors[0].shape)
        shape[axis] = sum([tensor.shape[axis] or 0 for tensor in tensors])
        return self.op("Concat", tensors, tuple(shape), axis=axis)

    def slice(
        self, tensor: BuilderTensor, axis: int, start: int, stop: int
    ) -> BuilderTensor:
        """Entries from start to before stop, along one static axis."""
        shape = list(tensor.shape)
        shape[axis] = stop - start
        if shape[axis] == tensor.shape[axis]:
            return tensor
        bounds = [self.integers(value) for value in (start, stop, axis, 1)]
        return self.op("Slice", (tensor, *bounds), tuple(shape))

    def expand(self, tensor: BuilderTensor, shape: Shape) -> BuilderTensor:
        """Repeats a tensor until it has a shape, along the batch too."""
        if tensor.shape == shape:
            return tensor
        sizes = [1 if size is None else size for size in shape]
        target = self.integers(*sizes)
        # The number of rows is known at a run alone, so that it is read from x in the
        # graph.
        if shape[0] is None:
            whole = self._counted
            if whole is None:
                entry = next(item for item in self._inputs if item.name == "x")
                whole = BuilderTensor(entry.name, (None,))
            target = self.op("Shape", (whole,), (1,), start=0, end=1)
            if len(sizes) > 1:
                target = self.concat([target, self.integers(*sizes[1:])], 0)
        return self.op("Expand", (tensor, target), shape)

    def select(
        self, tensor: BuilderTensor, axis: int, places: Sequence[int]
    ) -> BuilderTensor:
        """The entries at given places (not negative) along one static axis."""
        if list(places) == list(range(places[0], places[0] + len(places))):
            return self.slice(tensor, axis, places[0], places[0] + len(places))
        shape = (*tensor.shape[:axis], len(places), *tensor.shape[axis + 1 :])
        return self.op("Gather", (tensor, self.integers(*places)), shape, axis=axis)

    def unselect(
        self, tensor: BuilderTensor, axis: int, places: Sequence[int], size: int
    ) -> BuilderTensor:
        """Adds entries up where `select` took them from; zero elsewhere."""
        rank = len(tensor.shape)
        shape = (*tensor.shape[:axis], size, *tensor.shape[axis + 1 :])
        if list(places) == list(range(places[0], places[0] + len(places))):
            if len(places) == size:
                return tensor
            pads = [0] * 2 * rank
            pads[axis], pads[rank + axis] = places[0], size - places[0] - len(places)
            return self.op("Pad", (tensor, self.integers(*pads)), shape)
        matrix = np.zeros((len(places), size), np.float32)
        matrix[np.arange(len(places)), list(places)] = 1.0
        last = [*[i for i in range(rank) if i != axis], axis]
        spread = self.matmul(self.transpose(tensor, last), self.constant(matrix))
        return self.transpose(spread, sorted(range(rank), key=last.__getitem__))

    def held(self, tensor: BuilderTensor) -> BuilderTensor:
        """The same value under a name that says that it counts as a constant."""
        key = ("held", tensor.name)
        if key not in self._known:
            made = BuilderTensor(self._fresh(HELD_STEM.rstrip("_")), tensor.shape)
            self._calls.append(NodeDraft("Identity", (tensor.name,), (made.name,), {}))
            self._known[key] = (made,)
        return self._known[key][0]

    def finish(
        self, name: str, outputs: Sequence[tuple[str, BuilderTensor, str]]
    ) -> bytes:
        """Closes the graph.

        Args:
          name: Of the graph.
          outputs: Name in the finished graph, value and element type of each.

        Returns:
          The serialised model.

        Raises:
          CompileError: If it has more nodes than boards take.
        """
        for public, tensor, _ in outputs:
            identity = NodeDraft("Identity", (tensor.name,), (public,), {})
            self._calls.append(identity)
        calls, used = self._live({public for public, _, _ in outputs})
        if len(calls) > NODES_MAX:
            raise CompileError(
                f"the {name} graph has {len(calls):,} nodes, boards take "
                f"{NODES_MAX:,}; train only the last layers (--train 'NAME*'), or take "
                "a model of fewer layers or shorter sequences"
            )
        ends = [value_info(public, t.shape, dtype) for public, t, dtype in outputs]
        constants = {k: v for k, v in self._constants.items() if k in used}
        return serialised(name, calls, self._inputs, ends, constants)

    def _unexpanded(
        self, tensor: BuilderTensor, other: BuilderTensor, shape: Shape
    ) -> BuilderTensor:
        kind, source = self._sources.get(tensor.name, ("", tensor))
        if kind == "Expand" and broadcast(source.shape, other.shape) == shape:
            return source
        return tensor

    def _live(self, used: set[str]) -> tuple[list[NodeDraft], set[str]]:
        live = []
        for call in reversed(self._calls):
            if used.intersection(call.outputs):
                live.append(call)
                used.update(call.inputs)
        return live[::-1], used

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"


def broadcast(left: Shape, right: Shape) -> Shape:
    """The shape of two tensors combined element by element.

    The batch axis meets another batch axis, a 1 or nothing.
    """
    rank = max(len(left), len(right))
    left = (1,) * (rank - len(left)) + left
    right = (1,) * (rank - len(right)) + right
    shape: list[int | None] = []
    for a, b in zip(left, right, strict=True):
        assert a == b or 1 in (a, b), (left, right)
        shape.append(b if a == 1 else a)
    return tuple(shape)
