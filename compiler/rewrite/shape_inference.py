"""Finds the shape of every value, and where the batch is in it.

Everything is worked out twice, with two batch sizes. What differs between the two
depends on the batch: in a shape it may be one axis, whose size is the batch or a
multiple of it; a constant may be repeated along the batch.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.compiler.errors import CompileError
from starling.compiler.ir.network import Array, NetworkNode
from starling.compiler.rewrite.constant_folding import Sizes, settle

_BATCHES = (61, 67)
_FEWER = (1, 2)
_UNEVEN_NAMES = "Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mod Sign"
_UNEVEN = frozenset(_UNEVEN_NAMES.split())
"""Of a growing number they may say the same of two batches, and else of a third."""
VALUES_MAX = 1 << 28
"""Of one value for one example: 1 GiB."""


@dataclass(frozen=True)
class Extent:
    """The shape of a value of the model.

    Attributes:
      sizes: Of each axis; of the batch axis, how many times the batch it is long.
      batch: Which axis holds the batch; None in a static value.
    """

    sizes: Sizes
    batch: int | None

    @property
    def values(self) -> int:
        """Number of values, of one example where the batch is in it."""
        return math.prod(self.sizes)

    @property
    def plain(self) -> bool:
        """True if the batch is the first axis and nothing else is in it."""
        return self.batch == 0 and self.sizes[0] == 1


@dataclass(frozen=True)
class Repeated:
    """A constant that says the same of each example, or counts through the batch.

    Attributes:
      once: The constant for one example; along the batch axis it has size 1 if it is
        the same all along, else as many values as the axis has batches.
      before: How much of the batch axis' multiple stands in front of the batch; 0 if
        the constant is the same all along that axis.
      step: By how much each example's part is above the one before; None if by nothing.
    """

    once: Array
    before: int
    step: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class BatchSize:
    """Whole numbers that grow with the batch: `fixed + times * n`.

    Attributes:
      fixed: What they are without the batch.
      times: How many times its size is added.
    """

    fixed: NDArray[np.int64]
    times: NDArray[np.int64]


@dataclass(frozen=True)
class InferredShapes:
    """Shapes and values that are known before a model runs.

    Attributes:
      extents: Of every value whose shape is known.
      constants: Computed by nodes without the input.
      repeated: The same, with a batch axis; None where examples have nothing in common.
      sizes: Name to value of integers that depend on the batch size.
    """

    extents: Mapping[str, Extent]
    constants: Mapping[str, Array]
    repeated: Mapping[str, Repeated | None]
    sizes: Mapping[str, BatchSize]


def infer(
    proto: onnx.ModelProto, entry: onnx.ValueInfoProto, kept: Collection[str]
) -> InferredShapes:
    """Shapes of all values, and those values that do not depend on the input.

    Args:
      proto: A checked model.
      entry: Its only input, as `rewrite.model_inputs.joined` leaves it; the first axis
        becomes the batch, whatever size the file gives it.
      kept: Names of initialisers that may be trained and so are no constants.

    Raises:
      CompileError: If shapes contradict each other, or depend on the batch in another
        way than above.
    """
    # Two primes that hardly any axis has: a size that happens to equal a batch would
    # pass for it.
    (first, values), (second, others) = [
        settle(_with_batch(proto, entry, size), kept) for size in _BATCHES
    ]
    made = {name: node for node in proto.graph.node for name in node.output}
    extents = {
        name: _extent(_label(name, made), sizes, second[name])
        for name, sizes in first.items()
        if name in second
    }
    constants, repeated, sizes = {}, {}, {}
    for name, value in values.items():
        other = others.get(name)
        if other is None:
            continue
        if value.shape == other.shape and np.array_equal(value, other):
            constants[name] = value
        elif value.shape == other.shape and value.dtype.kind in "iub":
            sizes[name] = _grown(value, other)
        else:
            repeated[name] = _once(value, extents[name])
    found = InferredShapes(extents, constants, repeated, sizes)
    _check_fewer(proto, entry, kept, found)
    return found


def _check_fewer(
    proto: onnx.ModelProto,
    entry: onnx.ValueInfoProto,
    kept: Collection[str],
    found: InferredShapes,
) -> None:
    """Refuses what two sizes of the batch say if it is otherwise for one or two.

    Raises:
      CompileError: Naming the node.
    """
    nodes = proto.graph.node
    uneven = [node for node in nodes if node.op_type in _UNEVEN]
    if all(found.sizes.keys().isdisjoint(node.input) for node in uneven):
        return
    known = {*found.constants, *found.sizes, *found.repeated}
    # What only nodes read that are worked out here may differ, as the halves of an
    # answer that comes to the same.
    running = [node for node in nodes if known.isdisjoint(node.output)]
    read = {name for node in running for name in node.input}
    made = {name: node for node in nodes for name in node.output}
    for batch in _FEWER:
        try:
            values = known_values(proto, [entry], batch, kept)
        # Whether a model takes so few is not asked here.
        except CompileError:
            continue
        for name in sorted(read & values.keys()):
            expected = found.constants.get(name)
            if name in found.sizes:
                grown = found.sizes[name]
                expected = grown.fixed + grown.times * batch
            if expected is not None and not np.array_equal(values[name], expected):
                raise CompileError(
                    f"{_label(name, made)}: is chosen by the size of the batch, so "
                    "that examples give other values in a batch of another size; "
                    "write the model for any batch, and export it again",
                    (_label(name, made).partition(" ")[0],),
                )


def known_values(
    proto: onnx.ModelProto,
    entries: Iterable[onnx.ValueInfoProto],
    batch: int,
    kept: Collection[str] = (),
) -> Mapping[str, Array]:
    """Values that follow from shapes and constants in a batch of one size.

    Args:
      proto: A checked model.
      entries: Its inputs; the first axis of each becomes the batch.
      batch: The number of examples.
      kept: See `infer`.

    Raises:
      CompileError: If shapes contradict each other.
    """
    for entry in entries:
        proto = _with_batch(proto, entry, batch)
    return settle(proto, kept)[1]


def check_sizes(nodes: Iterable[NetworkNode], found: InferredShapes) -> None:
    """Refuses a model whose one example takes more memory than boards have.

    Raises:
      CompileError: Naming the node that makes the value.
    """
    for node in nodes:
        extents = [
            found.extents[name] for name in node.outputs if name in found.extents
        ]
        values = max([extent.values for extent in extents], default=0)
        if values > VALUES_MAX:
            raise CompileError(
                f"{node.label}: makes {values:,} values of one example, "
                f"{VALUES_MAX:,} allowed; feed smaller examples",
                (node.name,),
            )


def _with_batch(
    proto: onnx.ModelProto, entry: onnx.ValueInfoProto, batch: int
) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    graph = model.graph
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    for item in graph.input:
        if item.name == entry.name:
            _set_batch(item, batch)
    return model


def _set_batch(item: onnx.ValueInfoProto, batch: int) -> None:
    sizes = item.type.tensor_type.shape.dim
    sizes[0].dim_value = batch


def _label(name: str, made: Mapping[str, onnx.NodeProto]) -> str:
    """Name in messages of the node that makes a value."""
    node = made.get(name)
    return name if node is None else f"{node.name or name} ({node.op_type})"


def _extent(label: str, first: Sizes, second: Sizes) -> Extent:
    if first == second:
        return Extent(first, None)
    differ = [axis for axis, pair in enumerate(zip(first, second)) if len({*pair}) > 1]  # noqa: B905 - ranks are compared below
    if len(first) != len(second) or len(differ) != 1:
        raise CompileError(
            f"{label}: its shape depends on the batch in several axes, as where each "
            "example is compared with each other; compute that outside of the model",
            (label.partition(" ")[0],),
        )
    axis = differ[0]
    times, rest = divmod(first[axis], _BATCHES[0])
    # Padding and masks of examples give n + 1 or fewer than n, which no layout can
    # hold.
    if rest or second[axis] != times * _BATCHES[1]:
        raise CompileError(
            f"{label}: an axis is not a multiple of the batch, as where examples are "
            "left out or padded; let every node keep all of them",
            (label.partition(" ")[0],),
        )
    return Extent((*first[:axis], times, *first[axis + 1 :]), axis)


def _grown(value: Array, other: Array) -> BatchSize:
    """Numbers of two batches as those of any; truth values count as whole."""
    first, second = value.astype(np.int64), other.astype(np.int64)
    times = (second - first) // (_BATCHES[1] - _BATCHES[0])
    return BatchSize(first - times * _BATCHES[0], times)


def _once(value: Array, extent: Extent) -> Repeated | None:
    """A constant with a batch axis, for one example."""
    axis = extent.batch
    if axis is not None:
        one = value.take([0], axis=axis)
        if _same(value, one):
            return Repeated(one, 0)
        times = extent.sizes[axis]
        # Where the batch stands within its axis is not written in the file, so that
        # each way to split the axis is tried.
        for before in [part for part in range(1, times + 1) if times % part == 0]:
            ahead, behind = value.shape[:axis], value.shape[axis + 1 :]
            inside = (before, _BATCHES[0], times // before)
            parts = value.reshape(*ahead, *inside, *behind)
            one = parts.take([0], axis=axis + 1)
            if _same(parts, one):
                return Repeated(one.reshape(*ahead, times, *behind), before)
        return _counted(value, extent, axis)
    return None


def _counted(value: Array, extent: Extent, axis: int) -> Repeated | None:
    """Whole numbers that grow by the same from example to example."""
    if value.dtype.kind not in "iu" or extent.sizes[axis] != 1:
        return None
    whole = value.astype(np.int64)
    first, second = whole.take([0], axis=axis), whole.take([1], axis=axis)
    shape = [1] * whole.ndim
    shape[axis] = whole.shape[axis]
    numbers = np.arange(whole.shape[axis]).reshape(shape)
    # Two examples fit any step; all of them have to.
    if not np.array_equal(first + numbers * (second - first), whole):
        return None
    return Repeated(first, 0, second - first)


def _same(value: Array, one: Array) -> bool:
    return np.array_equal(np.broadcast_to(one, value.shape), value)
