"""Layout of a value: the position of the batch's examples in it.

The graphs that are written keep one row for each example: the batch is the first axis
of every value. A model need not: exporters put time first, or fold the batch and the
heads of an attention into one axis. A `BatchLayout` says how a value of the model and
the value that is kept belong together: the kept one has the same axes in the same
order, but the batch is taken out of its axis and put first. What stood before and
behind the batch within its axis stays as axes of its own.
"""

import math
from dataclasses import dataclass

from starling.compiler.ir.graph_writer import Shape
from starling.compiler.rewrite.shape_inference import Extent


@dataclass(frozen=True)
class BatchLayout:
    """Layout in which a batched value is kept.

    Attributes:
      sizes: Of the model's axes; of the batch axis, how many times the batch.
      batch: Which axis holds the batch.
      before: How much of that axis' multiple stands in front of the batch.
    """

    sizes: tuple[int, ...]
    batch: int
    before: int = 1

    @property
    def extent(self) -> Extent:
        """The shape in the model."""
        return Extent(self.sizes, self.batch)

    @property
    def plain(self) -> bool:
        """True if the model keeps the value in the same layout."""
        return self.extent.plain

    @property
    def parts(self) -> tuple[tuple[int, ...], ...]:
        """For each axis of the model, the axes that are kept for it."""
        inside = (self.before, self.sizes[self.batch] // self.before)
        return tuple(
            [
                # Parts of size 1 get no axis, so that a plain value is kept in the
                # model's own shape.
                tuple([part for part in inside if part > 1])
                if axis == self.batch
                else (size,)
                for axis, size in enumerate(self.sizes)
            ]
        )

    @property
    def shape(self) -> Shape:
        """Of the value that is kept."""
        return (None, *[size for part in self.parts for size in part])

    def places(self, axis: int) -> tuple[int, ...]:
        """Kept axes of one axis of the model."""
        start = 1 + sum([len(part) for part in self.parts[:axis]])
        return tuple(range(start, start + len(self.parts[axis])))

    def place(self, axis: int) -> int | None:
        """Kept axis of one of the model's axes; None for the batch axis."""
        axis += len(self.sizes) if axis < 0 else 0
        return None if axis == self.batch else self.places(axis)[0]

    def regrouped(self, target: Extent) -> "BatchLayout | None":
        """The layout after a reshape, if the batch stays together.

        The values of one example keep their order, so it is enough to find how many of
        them stand in front of the batch.
        """
        if target.batch is None:
            return None
        ahead = math.prod(self.sizes[: self.batch]) * self.before
        outside = math.prod(target.sizes[: target.batch])
        # A reshape keeps values in order, so what stands before the batch keeps its
        # number: the axes of the target before its batch hold a share of it.
        inside, rest = divmod(ahead, outside) if outside else (0, 1)
        if rest or not inside or target.sizes[target.batch] % inside:
            return None
        if math.prod(target.sizes) != math.prod(self.sizes):
            return None
        return BatchLayout(target.sizes, target.batch, inside)
