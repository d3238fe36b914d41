"""Finds the shape of every value, and where the batch is in it.

Everything is worked out twice, with two batch sizes. What differs between the two
depends on the batch: in a shape it may be one axis, whose size is the batch or a
multiple of it; a constant may be repeated along the batch.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from starling.compiler.errors import CompileError
from starling.compiler.ir.network import Array
from starling.compiler.rewrite.constant_folding import Sizes, settle

_BATCHES = (61, 67)


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
    def plain(self) -> bool:
        """Whether the batch is the first axis and nothing else is in it."""
        return self.batch == 0 and self.sizes[0] == 1


@dataclass(frozen=True)
class InferredShapes:
    """What is known of a model's values before it runs.

    Attributes:
      extents: Of every value whose shape is known.
      constants: Computed by nodes without the input.
      repeated: The same, repeated along the batch, which has size 1 here.
      sizes: Names of integers that depend on the batch size.
    """

    extents: Mapping[str, Extent]
    constants: Mapping[str, Array]
    repeated: Mapping[str, Array]
    sizes: frozenset[str]


def infer(
    proto: onnx.ModelProto, entry: onnx.ValueInfoProto, kept: Collection[str]
) -> InferredShapes:
    """Shapes of all values, and those values that do not depend on the input.

    Args:
      proto: A checked model.
      entry: Its only input, as `reader.model_inputs.joined` leaves it; the first axis
        becomes the batch, whatever size the file gives it.
      kept: Names of initialisers that may be trained and so are no constants.

    Raises:
      CompileError: If shapes contradict each other, or depend on the batch in another
        way than above.
    """
    (first, values), (second, others) = [
        settle(_with_batch(proto, entry, size), kept) for size in _BATCHES
    ]
    extents = {
        name: _extent(name, sizes, second[name])
        for name, sizes in first.items()
        if name in second
    }
    constants, repeated, sizes = {}, {}, set()
    for name, value in values.items():
        other = others.get(name)
        if other is None:
            continue
        if value.shape == other.shape and np.array_equal(value, other):
            constants[name] = value
        elif value.shape == other.shape and value.dtype.kind in "iub":
            sizes.add(name)
        else:
            repeated[name] = _once(name, value, extents[name])
    return InferredShapes(extents, constants, repeated, frozenset(sizes))


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


def _extent(name: str, first: Sizes, second: Sizes) -> Extent:
    if first == second:
        return Extent(first, None)
    differ = [axis for axis, pair in enumerate(zip(first, second)) if len({*pair}) > 1]  # noqa: B905 - ranks are compared below
    if len(first) != len(second) or len(differ) != 1:
        raise CompileError(f"{name}: its shape depends on the batch in several axes")
    axis = differ[0]
    times, rest = divmod(first[axis], _BATCHES[0])
    if rest or second[axis] != times * _BATCHES[1]:
        raise CompileError(f"{name}: an axis is not a multiple of the batch")
    return Extent((*first[:axis], times, *first[axis + 1 :]), axis)


def _once(name: str, value: Array, extent: Extent) -> Array:
    """A constant that says the same of each example, for one."""
    axis = extent.batch
    if axis is not None and extent.sizes[axis] == 1:
        one = value.take([0], axis=axis)
        if np.array_equal(np.broadcast_to(one, value.shape), value):
            return one
    raise CompileError(f"{name}: a constant that differs from example to example")
