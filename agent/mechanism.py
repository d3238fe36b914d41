"""The record-level Gaussian mechanism: a clipped sum, and exact integer noise on it.

`clipped_sum` adds up per-example gradients in micro-batches of one fixed shape, so that
a record that is taken away changes one float32 sum only and by a bounded amount;
`private_sum` rounds the result to a fine grid once and adds a discrete Gaussian there.
Noise is exact: every comparison of a uniform number with an exponential is decided in
float64 where the error bound allows it, and else in as many digits as it takes.

Letters: `d` parameters, `n` records, `b` records in a micro-batch, `s` the scale of the
noise in grid steps.

Source: Canonne, Kamath, Steinke 2020, arXiv:2004.00010 (mechanism, rejection sampling);
Karney 2016, arXiv:1303.6257, section 3 (proposal); docs/privacy.md (sensitivity).
"""

import decimal
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.errors import NonFinite, NormExceeded
from protocol.noise import MICRO_BATCH_MAX, noise_grid
from protocol.vectors import Draw, GridVector

Step = Callable[
    [NDArray[Any], NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.float32]]
]
"""Runs the private gradient on `x (b, ...)`, `y (b, ...)`: the sum of the clipped
per-example gradients `(d,) float32` and the norms before clipping `(b,) float32`."""

SCALE_MAX = 1 << 52
_STEPS_MAX = 2.0**61
# Float64 evaluation errs by a few 2^-53 relative, the uniform's first 64 bits by 2^-64:
# both margins leave a factor of a hundred and more.
_RELATIVE = 2.0**-36
_ABSOLUTE = 2.0**-60
# exp(-84 / 2) is below the absolute margin, so that the table's end is never certain.
_THRESHOLDS = np.exp(-np.arange(84, 0, -1) / 2)
_LOWER = _THRESHOLDS * (1 - _RELATIVE) - _ABSOLUTE
_UPPER = _THRESHOLDS * (1 + _RELATIVE) + _ABSOLUTE


def clipped_sum(
    step: Step, x: NDArray[Any], y: NDArray[Any], micro_batch: int
) -> NDArray[np.float64]:
    """The sum of clipped per-example gradients, one slot of one micro-batch a record.

    Empty slots of the last micro-batch are filled with an all-zero record, whose
    gradient, known from a micro-batch of nothing else, is taken off again. A record
    with a non-finite gradient counts as an empty slot.

    Args:
      step: The private gradient at the current theta and clip.
      x: (n, ...) records; a record's position decides its slot.
      y: (n, ...) labels.
      micro_batch: b, in [1, 64]; every call of `step` has that many rows.

    Returns:
      (d,) float64; zeros for n = 0.

    Raises:
      NonFinite: If the model itself gives no finite gradient: nothing to do with data.
    """
    assert 1 <= micro_batch <= MICRO_BATCH_MAX, micro_batch
    assert len(x) == len(y)
    pad_x = np.zeros((micro_batch, *x.shape[1:]), x.dtype)
    pad_y = np.zeros((micro_batch, *y.shape[1:]), y.dtype)
    pad_sum, _ = step(pad_x, pad_y)
    pad = np.asarray(pad_sum, np.float64) / micro_batch
    if not np.isfinite(pad).all():
        raise NonFinite("the model has no finite gradient at an all-zero record")
    total = np.zeros_like(pad)
    for start in range(0, len(x), micro_batch):
        rows = slice(start, start + micro_batch)
        filled = len(x[rows])
        slots_x, slots_y = pad_x.copy(), pad_y.copy()
        slots_x[:filled], slots_y[:filled] = x[rows], y[rows]
        gradient, norms = step(slots_x, slots_y)
        empty = np.arange(micro_batch) >= filled
        unusable = ~np.isfinite(norms) & ~empty
        if unusable.any():
            slots_x[unusable], slots_y[unusable] = pad_x[0], pad_y[0]
            gradient, _ = step(slots_x, slots_y)
        total += np.asarray(gradient, np.float64) - (empty | unusable).sum() * pad
    return total


def private_sum(
    clipped: NDArray[np.float64], clip_q24: int, sigma_micro: int, draw: Draw
) -> GridVector:
    """Rounds a clipped sum to the grid and adds its noise.

    The charge for it must be on disk before this is called.

    Args:
      clipped: (d,) float64 from `clipped_sum`.
      clip_q24: The clip of each record's gradient in units of 2^-24.
      sigma_micro: Noise multiplier in units of 10^-6.
      draw: Cryptographically secure random bytes.

    Returns:
      (d,) int64 with the grid's exponent.

    Raises:
      ConfigError: If clip, sigma or d are out of bounds.
      NonFinite: If the sum holds a NaN or an infinity.
      NormExceeded: If a coordinate is beyond any sum of clipped gradients.
    """
    grid = noise_grid(clip_q24, sigma_micro, clipped.size)
    if not np.isfinite(clipped).all():
        raise NonFinite("the clipped sum holds a NaN or an infinity")
    steps = np.rint(np.ldexp(clipped, -grid.exponent))
    if np.abs(steps).max() >= _STEPS_MAX:
        raise NormExceeded("the clipped sum does not fit the grid")
    noise = discrete_gaussian(grid.scale, clipped.size, draw)
    return GridVector(steps.astype(np.int64) + noise, grid.exponent)


def discrete_gaussian(scale: int, count: int, draw: Draw) -> NDArray[np.int64]:
    """Independent integers x with probability proportional to exp(-x^2 / (2 s^2)).

    Args:
      scale: s, in [1, 2^52].
      count: How many.
      draw: Cryptographically secure random bytes; about 50 per number.

    Returns:
      (count,) int64.

    Source: rejection from `k s + u` with k geometric and u uniform on [0, s), as
      Karney 2016 has it for the continuous law; accepted with probability
      `exp(-((k s + u)^2 - k s^2) / (2 s^2))`, which makes the product the target's.
    """
    assert 1 <= scale <= SCALE_MAX, scale
    kept: list[NDArray[np.int64]] = []
    missing = count
    while missing > 0:
        accepted = _propose(scale, 64 + 21 * missing // 10, draw)[:missing]
        kept.append(accepted)
        missing -= accepted.size
    return np.concatenate(kept) if kept else np.zeros(0, np.int64)


def _propose(scale: int, count: int, draw: Draw) -> NDArray[np.int64]:
    """Those of `count` proposals that were accepted, in order."""
    words = np.frombuffer(draw(24 * count), "<u8").reshape(3, count)
    jumps = _geometric(words[0], draw)
    negative = (words[1] & np.uint64(1)).astype(bool)
    position = words[1] >> np.uint64(1)
    usable = position < np.uint64((1 << 63) // scale * scale)
    offsets = (position % np.uint64(scale)).astype(np.int64)
    usable &= ~(negative & (offsets == 0) & (jumps == 0))
    ratio = offsets / scale
    real_jumps = jumps.astype(np.float64)
    exponent = ratio * (0.5 * ratio + real_jumps) + 0.5 * real_jumps * (real_jumps - 1)
    chance = np.exp(-exponent)
    uniform = words[2] * 2.0**-64
    accepted = uniform < chance * (1 - _RELATIVE) - _ABSOLUTE
    unsure = ~accepted & (uniform <= chance * (1 + _RELATIVE) + _ABSOLUTE) & usable
    for index in np.flatnonzero(unsure):
        jump, offset = int(jumps[index]), int(offsets[index])
        numerator = (jump * scale + offset) ** 2 - jump * scale**2
        lazy = _LazyUniform(int(words[2][index]), 64, draw)
        accepted[index] = lazy.is_below_exp(numerator, 2 * scale**2)
    signed: NDArray[np.int64] = jumps * scale + offsets
    signed[negative] *= -1
    kept: NDArray[np.int64] = signed[accepted & usable]
    return kept


def _geometric(words: NDArray[np.uint64], draw: Draw) -> NDArray[np.int64]:
    """How many k >= 1 have U < exp(-k / 2), for U that begin with these 64 bits."""
    uniform = words * 2.0**-64
    least = _LOWER.size - np.searchsorted(_LOWER, uniform, "right")
    most = _UPPER.size - np.searchsorted(_UPPER, uniform, "left")
    for index in np.flatnonzero(least != most):
        lazy = _LazyUniform(int(words[index]), 64, draw)
        jumps = 0
        while lazy.is_below_exp(jumps + 1, 2):
            jumps += 1
        least[index] = jumps
    return least


@dataclass
class _LazyUniform:
    """A uniform number in [0, 1), of which only as many bits exist as were needed.

    Attributes:
      bits: Its first `length` bits, as an integer.
      length: How many bits there are.
      draw: Where more come from.
    """

    bits: int
    length: int
    draw: Draw

    def is_below_exp(self, numerator: int, denominator: int) -> bool:
        """Whether the number is below exp(-numerator / denominator), exactly.

        Ends with probability 1; each round of 64 bits decides all but 2^-63.
        """
        if numerator == 0:
            return True
        while True:
            least, most = _exp_bounds(numerator, denominator, self.length)
            if self.bits + 1 <= least:
                return True
            if self.bits >= most:
                return False
            self.bits = (self.bits << 64) | int.from_bytes(self.draw(8), "little")
            self.length += 64


def _exp_bounds(numerator: int, denominator: int, bits: int) -> tuple[int, int]:
    """Integers around 2^bits * exp(-numerator / denominator).

    `decimal` rounds quotient, exponential and product correctly, so that for
    arguments up to 10^6 the error stays below 10^-(digits - 8) before scaling.
    """
    digits = 30 + math.ceil(bits * math.log10(2))
    with decimal.localcontext(decimal.Context(prec=digits)):
        ratio = decimal.Decimal(numerator) / decimal.Decimal(denominator)
        margin = decimal.Decimal(10) ** (8 - digits)
        value = (-ratio).exp()
        scale = decimal.Decimal(1 << bits)
        return math.floor((value - margin) * scale), math.ceil((value + margin) * scale)
