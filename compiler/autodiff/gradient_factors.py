"""Factors of a parameter's gradient, for one use of it and example by example.

Each kind keeps the factors it was made of, so that the sum over the batch and the norm
of each example's part need no per-example tensor where algebra allows: the gradient of
a linear layer is an outer product, whose norm is the product of two norms. Where the
per-example gradient must exist, it exists once (the builder writes equal nodes once).

Letters: n examples, p and q the sides of a weight matrix, l positions (pixels of a
convolution, steps of a sequence).

Source: Goodfellow, arXiv:1510.01799 (norms of linear layers); Rochette, Manoel and
Tramel, arXiv:1912.06015 (convolutions); Li et al., arXiv:2110.05679 section 4
(positions: Gram matrices against materialising).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from starling.compiler.ir.graph_builder import BuilderTensor, GraphBuilder

_WIDE = 64
"""From this many values on a product with ones is faster than a sum over rows."""
_RATIO_WIDE = 2
"""Of a weight's values to those of its factors; measured on nine shapes."""


class GradientFactors(Protocol):
    """One use of one parameter of `size` values."""

    def norm_squared(self, build: GraphBuilder) -> BuilderTensor:
        """(n,): squared norm of each example's part."""
        ...

    def total(self, build: GraphBuilder, scale: BuilderTensor | None) -> BuilderTensor:
        """(size,): the sum over the batch, weighted by `scale` (n,) if given."""
        ...

    def rows(self, build: GraphBuilder) -> BuilderTensor:
        """(n, size): each example's part."""
        ...


@dataclass(frozen=True)
class Rows:
    """Parts that exist as a tensor: biases, gains, everything element by element.

    Attributes:
      parts: (n, ...) in the parameter's own order.
    """

    parts: BuilderTensor

    def norm_squared(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        return build.squares(self.rows(build))

    def total(self, build: GraphBuilder, scale: BuilderTensor | None) -> BuilderTensor:
        """See `GradientFactors`."""
        rows = self.rows(build)
        if scale is None and rows.row_size < _WIDE:
            return build.reduce("ReduceSum", rows, [0])
        if scale is None:
            # One row may stand for the whole batch already.
            count = build.op("Shape", (rows,), (1,), start=0, end=1)
            scale = build.op("Expand", (build.scalar(1.0), count), (None,))
        return build.op("MatMul", (scale, rows), (rows.row_size,))

    def rows(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        return build.flat(self.parts)


@dataclass(frozen=True)
class OuterProduct:
    """A weight matrix applied to one vector: the part is left x right.

    Attributes:
      left: (n, p).
      right: (n, q).
    """

    left: BuilderTensor
    right: BuilderTensor

    def norm_squared(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`: |left|^2 |right|^2."""
        return build.mul(
            build.squares(self.left),
            build.squares(self.right),
        )

    def total(self, build: GraphBuilder, scale: BuilderTensor | None) -> BuilderTensor:
        """See `GradientFactors`: one matrix product with the batch as inner axis."""
        return _joined(build, _scaled(build, self.left, scale), self.right)

    def rows(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        p, q = self.left.row_size, self.right.row_size
        column = build.reshape(self.left, (None, p, 1))
        row = build.reshape(self.right, (None, 1, q))
        return build.flat(build.mul(column, row))


@dataclass(frozen=True)
class Positions:
    """A weight matrix applied at each step of a sequence.

    Attributes:
      left: (n, l, p).
      right: (n, l, q).
    """

    left: BuilderTensor
    right: BuilderTensor

    def norm_squared(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        return build.squares(self.rows(build))

    def total(self, build: GraphBuilder, scale: BuilderTensor | None) -> BuilderTensor:
        """See `GradientFactors`.

        With a scale, each example's part is summed over its own positions first: one
        product over positions of all examples would round by what cancels within one
        example, which no clip bounds.
        """
        if scale is not None:
            return Rows(self.rows(build)).total(build, scale)
        pairs = []
        for side in (self.left, self.right):
            width = side.row[1]
            joined = build.op(
                "Reshape", (side, build.integers(-1, width)), (None, width)
            )
            pairs.append(joined)
        return _joined(build, *pairs)

    def rows(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        return build.flat(build.matmul(build.swap(self.left), self.right))


@dataclass(frozen=True)
class Correlation:
    """A weight matrix (in groups, of which there may be one) applied to patches.

    Attributes:
      left: (n, g, p, l); (n, p, l) for one group.
      right: (n, g, q, l); (n, q, l) for one group.
    """

    left: BuilderTensor
    right: BuilderTensor

    def norm_squared(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        return build.squares(self.rows(build))

    def total(self, build: GraphBuilder, scale: BuilderTensor | None) -> BuilderTensor:
        """See `GradientFactors`.

        Where a weight is much larger than what it is the product of, the examples'
        own parts would not fit the processor's cache; without a scale one product over
        all examples and positions takes their place.
        """
        if scale is not None or not self._wide:
            return Rows(self.rows(build)).total(build, scale)
        sides = []
        for side in (self.left, self.right):
            height = side.row[0]
            lines = build.transpose(side, [1, 0, 2])
            inputs = (lines, build.integers(height, -1))
            sides.append(build.op("Reshape", inputs, (height, None)))
        heights = (self.left.row[0], self.right.row[0])
        return build.flat(build.op("Gemm", sides, heights, transB=1))

    def rows(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        return build.flat(build.matmul(self.left, build.swap(self.right)))

    @property
    def _wide(self) -> bool:
        if len(self.left.row) > 2:
            return False
        (p, length), q = self.left.row, self.right.row[0]
        return p * q >= _RATIO_WIDE * length * (p + q)


@dataclass(frozen=True)
class Lookup:
    """Rows of a table, looked up at each position: an embedding.

    Attributes:
      indices: (n, l) int64 in [-rows, rows).
      parts: (n, l, width).
      height: Rows of the table.
    """

    indices: BuilderTensor
    parts: BuilderTensor
    height: int

    def norm_squared(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        if self._materialised:
            return build.squares(self.rows(build))
        # Equal places of an example add up in one row of the gradient: the squares of
        # single parts would not be its norm.
        return build.squares(self._combined(build))

    def total(self, build: GraphBuilder, scale: BuilderTensor | None) -> BuilderTensor:
        """See `GradientFactors`; rows of the table are added up where they belong."""
        if scale is not None and self._materialised:
            return Rows(self.rows(build)).total(build, scale)
        # Added up before they are scaled: what cancels within one example would be
        # rounded by an amount that no clip bounds (as in `Positions.total`).
        parts = self.parts if scale is None else self._combined(build)
        width = parts.row[1]
        parts = _scaled(build, parts, scale)
        flat = build.op("Reshape", (parts, build.integers(-1, width)), (None, width))
        column = build.op(
            "Reshape", (self._places(build), build.integers(-1, 1)), (None, 1)
        )
        ones = build.constant(np.ones((1, width), np.int64))
        zeros = build.expand(build.scalar(0.0), (self.height, width))
        inputs = (zeros, build.mul(column, ones), flat)
        table = build.op(
            "ScatterElements", inputs, (self.height, width), axis=0, reduction="add"
        )
        return build.flat(table)

    def rows(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        length = self.parts.row[0]
        line = build.reshape(self._places(build), (None, 1, length))
        numbers = np.arange(self.height, dtype=np.int64).reshape(1, self.height, 1)
        chosen = _equal(build, build.constant(numbers), line)
        return build.flat(build.matmul(chosen, self.parts))

    @property
    def _materialised(self) -> bool:
        # A table of few rows is smaller than the pairs of places that `_combined`
        # compares.
        return self.height <= self.parts.row[0]

    def _places(self, build: GraphBuilder) -> BuilderTensor:
        # Negative places count from the end of the table; the remainder gives each row
        # one number.
        height = build.constant(np.array(self.height, np.int64))
        return build.binary("Mod", self.indices, height)

    def _combined(self, build: GraphBuilder) -> BuilderTensor:
        """(n, l, width): at the first of equal indices the sum of all, else zero."""
        length = self.parts.row[0]
        places = self._places(build)
        column = build.reshape(places, (None, length, 1))
        equal = _equal(build, column, build.reshape(places, (None, 1, length)))
        # Below the diagonal stand earlier places of the same example.
        below = build.constant(np.tri(length, k=-1, dtype=np.float32))
        earlier = build.reduce("ReduceMax", build.mul(equal, below), [2], keep=True)
        first = build.binary("Sub", build.scalar(1.0), earlier)
        return build.mul(build.matmul(equal, self.parts), first)


@dataclass(frozen=True)
class Blocks:
    """A parameter made of consecutive blocks, each used in its own way."""

    blocks: tuple[GradientFactors, ...]

    def norm_squared(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        squares = [block.norm_squared(build) for block in self.blocks]
        return build.op("Sum", squares, (None,))

    def total(self, build: GraphBuilder, scale: BuilderTensor | None) -> BuilderTensor:
        """See `GradientFactors`."""
        return build.concat([block.total(build, scale) for block in self.blocks], 0)

    def rows(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        return build.concat([block.rows(build) for block in self.blocks], 1)


@dataclass(frozen=True)
class RepeatedUse:
    """A parameter used several times: the norm of the sum is what counts."""

    uses: tuple[GradientFactors, ...]

    def norm_squared(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        return build.squares(self.rows(build))

    def total(self, build: GraphBuilder, scale: BuilderTensor | None) -> BuilderTensor:
        """See `GradientFactors`."""
        if scale is not None:
            return Rows(self.rows(build)).total(build, scale)
        totals = [use.total(build, None) for use in self.uses]
        return build.op("Sum", totals, totals[0].shape)

    def rows(self, build: GraphBuilder) -> BuilderTensor:
        """See `GradientFactors`."""
        rows = [use.rows(build) for use in self.uses]
        return build.op("Sum", rows, rows[0].shape)


def merge(build: GraphBuilder, uses: list[GradientFactors]) -> GradientFactors:
    """All uses of one parameter as one."""
    if len(uses) == 1:
        return uses[0]
    pairs = [
        _sides(build, use) for use in uses if isinstance(use, OuterProduct | Positions)
    ]
    widths = {(left.row[1], right.row[1]) for left, right in pairs}
    if len(pairs) < len(uses) or len(widths) > 1:
        # The norm of a sum is not the sum of norms: each example's uses have to meet
        # before they are measured, or the clip would not bound their sum.
        return RepeatedUse(tuple(uses))
    # A sum of outer products is one product with the uses as its inner axis, as
    # positions are.
    lefts, rights = zip(*pairs, strict=True)
    return Positions(build.concat(lefts, 1), build.concat(rights, 1))


def turned(use: GradientFactors) -> GradientFactors | None:
    """The use of a matrix whose transpose is used so, where that has a short form."""
    match use:
        case OuterProduct(left, right):
            return OuterProduct(right, left)
        case Positions(left, right):
            return Positions(right, left)
        case _:
            return None


def _sides(
    build: GraphBuilder, use: OuterProduct | Positions
) -> tuple[BuilderTensor, BuilderTensor]:
    if isinstance(use, Positions):
        return use.left, use.right
    left, right = [
        build.reshape(side, (None, 1, side.row_size)) for side in (use.left, use.right)
    ]
    return left, right


def _equal(
    build: GraphBuilder, left: BuilderTensor, right: BuilderTensor
) -> BuilderTensor:
    """1.0 where two tensors of integers agree, with broadcasting."""
    agree = build.binary("Equal", left, right)
    return build.op("Cast", (agree,), agree.shape, to=1)


def _scaled(
    build: GraphBuilder, tensor: BuilderTensor, scale: BuilderTensor | None
) -> BuilderTensor:
    if scale is None:
        return tensor
    rank = len(tensor.shape)
    return build.mul(tensor, build.reshape(scale, (None, *[1] * (rank - 1))))


def _joined(
    build: GraphBuilder, left: BuilderTensor, right: BuilderTensor
) -> BuilderTensor:
    p, q = left.row_size, right.row_size
    return build.flat(build.op("Gemm", (left, right), (p, q), transA=1))
