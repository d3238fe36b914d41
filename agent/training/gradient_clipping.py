"""The clipped sum of records' gradients, one record at a time, in exact integers.

Whatever gives the gradients, be it a graph that lies: each vector is shortened to the
clip here, rounded to the noise grid at once, and added without any further rounding. So
the sum is a function of the multiset of records, and one record moves it by at most
`clip / step + sqrt(d) / 2` steps. A record without a finite gradient adds nothing.

Letters: `d` parameters, `n` records.

Source: docs/privacy.md (sensitivity).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.training.training_inputs import TrainingInputs
from starling.protocol.learning.task import Q24
from starling.protocol.privacy.clipping_functions import scale_inside

Gradient = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
"""From one record, `x (1, ...)` and `y (1, ...)`, to its gradient `(d,) float32`."""

TOGETHER = 1 << 17
"""Records that float64 adds up exactly: a step is so fine that a clip has below 2^35 of
them, and 2^52 is a whole number in float64."""
_PART = 8192
"""Values that are multiplied at once: longer products would be dealt out to threads,
which takes longer than it saves."""
_ALIGNMENT = 64
"""Bytes; where an array begins decides how some kernels sum, so it never varies."""


@dataclass(frozen=True)
class Clip:
    """Clipping of one record's gradient to integers.

    Attributes:
      clip_q24: The longest norm, in units of 2^-24.
      kind: One of `protocol.privacy.clipping_functions.CLIPPINGS`.
      exponent: The grid's step is 2**exponent.
    """

    clip_q24: int
    kind: str
    exponent: int


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of zeros that begins at a multiple of 64 bytes.

    In one dimension it is what its views refer to, as if it owned its memory.
    """
    count = math.prod(shape)
    room = np.zeros(count * dtype.itemsize + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    if not count:
        return np.zeros(shape, dtype)
    flat = np.frombuffer(room.data[start:], dtype, count)
    return flat if len(shape) == 1 else flat.reshape(shape)


class ClippedSum:
    """Adds up gradients; each addend is integers, so that no order matters."""

    def __init__(self, dimension: int, clip: Clip) -> None:
        """An empty sum.

        Args:
          dimension: d, in [1, 2^26].
          clip: Of every record.
        """
        self.unusable = 0
        self._clip, self._bound = clip, clip.clip_q24 / Q24
        self._whole = np.zeros(dimension, np.int64)
        self._recent = np.zeros(dimension, np.float64)
        self._row = np.empty(dimension, np.float64)
        starts = range(0, dimension, _PART)
        self._parts = [self._row[start : start + _PART] for start in starts]
        self._count = 0

    def add(self, gradient: NDArray[Any]) -> None:
        """Adds one record's gradient; nothing if it is not finite.

        Args:
          gradient: (d,) float32, of any norm; read, and not kept.
        """
        row = self._row
        # Scaled and rounded in one float64 buffer for all records: no array is made for
        # each of them.
        np.copyto(row, gradient)
        # Squares of float32 neither overflow nor vanish in float64.
        square = math.fsum(float(part @ part) for part in self._parts)
        if not math.isfinite(square):
            self.unusable += 1
            return
        scale = scale_inside(math.sqrt(square), self._bound, self._clip.kind)
        np.multiply(row, math.ldexp(scale, -self._clip.exponent), out=row)
        np.rint(row, out=row)
        self._recent += row
        self._count += 1
        if self._count % TOGETHER == 0:
            self._settle()

    def skip(self) -> None:
        """Counts a record that gave no gradient."""
        self.unusable += 1

    def total(self) -> NDArray[np.int64]:
        """The sum so far, (d,) in steps of the grid."""
        self._settle()
        return self._whole.copy()

    def _settle(self) -> None:
        self._whole += self._recent.astype(np.int64)
        self._recent[:] = 0.0


def clipped_sum(
    gradient: Gradient, work: TrainingInputs, chosen: Iterable[int], clip: Clip
) -> ClippedSum:
    """Adds up the clipped gradients of some records, each computed by itself.

    A record is copied to the same place in memory before its gradient is computed, so
    that the result cannot depend on where it stood among the others.

    Args:
      gradient: At the current theta.
      work: Records, and which of them count as none.
      chosen: Numbers of records, each below n.
      clip: Of every record.
    """
    x, y = work.x, work.y
    found = ClippedSum(work.theta.size, clip)
    row_x = aligned((1, *x.shape[1:]), x.dtype)
    row_y = aligned((1, *y.shape[1:]), y.dtype)
    for number in chosen:
        if number in work.skipped:
            found.skip()
            continue
        work.mark(int(number))
        row_x[0], row_y[0] = x[number], y[number]
        try:
            found.add(gradient(row_x, row_y))
        except Exception:  # noqa: BLE001 - a record on which anything fails is an empty slot; to stop would tell
            found.skip()
    work.mark(None)
    return found
