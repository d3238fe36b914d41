"""What one use of a parameter adds to the gradient, example by example.

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

from compiler.builder import Builder, Tensor


class Contribution(Protocol):
    """One use of one parameter of `size` values."""

    def norm_squared(self, build: Builder) -> Tensor:
        """(n,): squared norm of each example's part."""
        ...

    def slack(self, build: Builder) -> Tensor | None:
        """(n,): a bound on the error of `norm_squared` where its sum can cancel.

        None where all its terms are squares: their sum is good to a few roundings.
        """
        ...

    def total(self, build: Builder, scale: Tensor | None) -> Tensor:
        """(size,): the sum over the batch, weighted by `scale` (n,) if given."""
        ...

    def rows(self, build: Builder) -> Tensor:
        """(n, size): each example's part."""
        ...


@dataclass(frozen=True)
class Rows:
    """Parts that exist as a tensor: biases, gains, everything element by element.

    Attributes:
      parts: (n, ...) in the parameter's own order.
    """

    parts: Tensor

    def norm_squared(self, build: Builder) -> Tensor:
        """See `Contribution`."""
        return build.squares(self.rows(build))

    def slack(self, build: Builder) -> None:
        """See `Contribution`."""

    def total(self, build: Builder, scale: Tensor | None) -> Tensor:
        """See `Contribution`."""
        rows = self.rows(build)
        if scale is None:
            return build.reduce("ReduceSum", rows, [0])
        weights = build.op("Reshape", (scale, build.integers(1, -1)), (1, None))
        return build.flat(build.op("MatMul", (weights, rows), (1, rows.row_size)))

    def rows(self, build: Builder) -> Tensor:
        """See `Contribution`."""
        return build.flat(self.parts)


@dataclass(frozen=True)
class Outer:
    """A weight matrix applied to one vector: the part is left x right.

    Attributes:
      left: (n, p).
      right: (n, q).
    """

    left: Tensor
    right: Tensor

    def norm_squared(self, build: Builder) -> Tensor:
        """See `Contribution`: |left|^2 |right|^2."""
        return build.mul(
            build.squares(self.left),
            build.squares(self.right),
        )

    def slack(self, build: Builder) -> None:
        """See `Contribution`."""

    def total(self, build: Builder, scale: Tensor | None) -> Tensor:
        """See `Contribution`: one matrix product with the batch as inner axis."""
        return _joined(build, _scaled(build, self.left, scale), self.right)

    def rows(self, build: Builder) -> Tensor:
        """See `Contribution`."""
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

    left: Tensor
    right: Tensor

    def norm_squared(self, build: Builder) -> Tensor:
        """See `Contribution`; by Gram matrices where that takes fewer products."""
        if not self._by_gram:
            return build.squares(self.rows(build))
        grams = [
            build.matmul(side, build.swap(side)) for side in (self.left, self.right)
        ]
        total = build.reduce("ReduceSum", build.flat(build.mul(*grams)), [1])
        return build.binary("Max", total, build.scalar(0.0))

    def slack(self, build: Builder) -> Tensor | None:
        """See `Contribution`; Cauchy and Schwarz bound the terms of the Gram sum.

        Each of its l^2 terms is off by at most (p + q + 1) 2^-24 of a product of
        norms, the sum of l^2 terms by l^2 2^-24 more, and the sum of all those
        products is at most the product of the two squared norms.
        """
        if not self._by_gram:
            return None
        (length, p), q = self.left.row, self.right.row[1]
        product = build.mul(build.squares(self.left), build.squares(self.right))
        share = (p + q + 1 + length * length) * 2.0**-23
        return build.mul(product, build.scalar(share))

    @property
    def _by_gram(self) -> bool:
        (length, p), q = self.left.row, self.right.row[1]
        return length * (p + q) < p * q

    def total(self, build: Builder, scale: Tensor | None) -> Tensor:
        """See `Contribution`."""
        left = _scaled(build, self.left, scale)
        pairs = []
        for side in (left, self.right):
            width = side.row[1]
            joined = build.op(
                "Reshape", (side, build.integers(-1, width)), (None, width)
            )
            pairs.append(joined)
        return _joined(build, *pairs)

    def rows(self, build: Builder) -> Tensor:
        """See `Contribution`."""
        return build.flat(build.matmul(build.swap(self.left), self.right))


@dataclass(frozen=True)
class Correlation:
    """A weight matrix (in groups, of which there may be one) applied to patches.

    Attributes:
      left: (n, g, p, l).
      right: (n, g, q, l).
    """

    left: Tensor
    right: Tensor

    def norm_squared(self, build: Builder) -> Tensor:
        """See `Contribution`."""
        return build.squares(self.rows(build))

    def slack(self, build: Builder) -> None:
        """See `Contribution`."""

    def total(self, build: Builder, scale: Tensor | None) -> Tensor:
        """See `Contribution`."""
        return Rows(self.rows(build)).total(build, scale)

    def rows(self, build: Builder) -> Tensor:
        """See `Contribution`."""
        return build.flat(build.matmul(self.left, build.swap(self.right)))


def merge(build: Builder, uses: list[Contribution]) -> Contribution:
    """All uses of one parameter as one: the norm of their sum is what counts."""
    if len(uses) == 1:
        return uses[0]
    rows = [use.rows(build) for use in uses]
    return Rows(build.op("Sum", rows, rows[0].shape))


def _scaled(build: Builder, tensor: Tensor, scale: Tensor | None) -> Tensor:
    if scale is None:
        return tensor
    rank = len(tensor.shape)
    return build.mul(tensor, build.reshape(scale, (None, *[1] * (rank - 1))))


def _joined(build: Builder, left: Tensor, right: Tensor) -> Tensor:
    p, q = left.row_size, right.row_size
    return build.flat(build.op("Gemm", (left, right), (p, q), transA=1))
