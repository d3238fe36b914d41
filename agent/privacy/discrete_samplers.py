"""Exact integer noise: discrete Gaussian and discrete Laplace numbers.

Both are drawn by rejection. Every comparison of a uniform number with an exponential is
decided in float64 where the error bound allows it, and else in as many digits as it
takes, so that the laws are exact.

Letters: `s` the scale of the noise in grid steps.

Source: Canonne, Kamath, Steinke 2020, arXiv:2004.00010 (rejection sampling, algorithms
1 and 2); Karney 2016, arXiv:1303.6257, section 3 (proposal).
"""

import decimal
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from starling.protocol.learning.vector_codecs import Draw

# Offsets below 2^53 are exact in float64, and a thousand jumps of 2^52 steps still fit
# an int64.
SCALE_MAX = 1 << 52
# Float64 evaluation errs by a few 2^-53 relative, the uniform's first 64 bits by 2^-64:
# both margins leave a factor of a hundred and more.
_RELATIVE = 2.0**-36
_ABSOLUTE = 2.0**-60
# exp(-84 / 2) is below the absolute margin, so that the table's end is never certain.
_THRESHOLDS = np.exp(-np.arange(84, 0, -1) / 2)
_LOWER = _THRESHOLDS * (1 - _RELATIVE) - _ABSOLUTE
_UPPER = _THRESHOLDS * (1 + _RELATIVE) + _ABSOLUTE
TOGETHER = 1 << 16
"""Numbers that are drawn at once: each takes 200 bytes until it is accepted."""

Fraction = Callable[[int, int], tuple[int, int]]
"""The exact exponent of a proposal `jump * s + offset`: numerator, denominator."""


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
    return _collect(_propose, scale, count, draw)


def discrete_laplace(scale: int, count: int, draw: Draw) -> NDArray[np.int64]:
    """Independent integers x with probability proportional to exp(-|x| / s).

    Args:
      scale: s, in [1, 2^52].
      count: How many.
      draw: Cryptographically secure random bytes; about 40 per number.

    Returns:
      (count,) int64.

    Source: Canonne, Kamath, Steinke 2020, algorithm 2: `k s + u` with k geometric of
      ratio 1/e and u uniform on [0, s), accepted with probability `exp(-u / s)`.
    """
    return _collect(_propose_laplace, scale, count, draw)


def _collect(
    propose: Callable[[int, int, Draw], NDArray[np.int64]],
    scale: int,
    count: int,
    draw: Draw,
) -> NDArray[np.int64]:
    assert 1 <= scale <= SCALE_MAX, scale
    found = np.empty(count, np.int64)
    filled = 0
    while filled < count:
        missing = min(count - filled, TOGETHER)
        # At least 0.49 of the proposals are accepted (0.63 for Laplace), so that 2.1
        # proposals for each number and 64 spare ones rarely need a second pass.
        accepted = propose(scale, 64 + 21 * missing // 10, draw)[:missing]
        found[filled : filled + accepted.size] = accepted
        filled += accepted.size
    return found


def _propose(scale: int, count: int, draw: Draw) -> NDArray[np.int64]:
    """Those of `count` Gaussian proposals that were accepted, in order."""
    # One word each for the jump, for sign and offset, and for the acceptance: decisions
    # that shared bits would depend on each other.
    words = np.frombuffer(draw(24 * count), "<u8").reshape(3, count)
    jumps = _geometric(words[0], draw)
    ratio_of = _offsets(words[1], scale) / scale
    real = jumps.astype(np.float64)
    # The docstring's exponent, multiplied out: squares of integers around 2^52 would
    # lose their last digits in float64.
    exponents = ratio_of * (0.5 * ratio_of + real) + 0.5 * real * (real - 1)

    def fraction(jump: int, offset: int) -> tuple[int, int]:
        return (jump * scale + offset) ** 2 - jump * scale**2, 2 * scale**2

    return _accepted(words, jumps, scale, exponents, fraction, draw)


def _propose_laplace(scale: int, count: int, draw: Draw) -> NDArray[np.int64]:
    """Those of `count` Laplace proposals that were accepted, in order."""
    words = np.frombuffer(draw(24 * count), "<u8").reshape(3, count)
    # Half of a geometric number of ratio e^(-1/2), rounded down, has ratio e^-1.
    jumps = _geometric(words[0], draw) // 2
    exponents = _offsets(words[1], scale) / scale

    def fraction(jump: int, offset: int) -> tuple[int, int]:
        del jump
        return offset, scale

    return _accepted(words, jumps, scale, exponents, fraction, draw)


def _offsets(words: NDArray[np.uint64], scale: int) -> NDArray[np.int64]:
    return ((words >> np.uint64(1)) % np.uint64(scale)).astype(np.int64)


def _accepted(
    words: NDArray[np.uint64],
    jumps: NDArray[np.int64],
    scale: int,
    exponents: NDArray[np.float64],
    fraction: Fraction,
    draw: Draw,
) -> NDArray[np.int64]:
    """Signed proposals whose uniform number is below exp(-exponent)."""
    offsets = _offsets(words[1], scale)
    negative = (words[1] & np.uint64(1)).astype(bool)
    # The rest of 2^63 beyond a multiple of the scale would make small offsets
    # likelier.
    usable = (words[1] >> np.uint64(1)) < np.uint64((1 << 63) // scale * scale)
    # Zero with both signs would be drawn twice as often as the law says.
    usable &= ~(negative & (offsets == 0) & (jumps == 0))
    chance = np.exp(-exponents)
    uniform = words[2] * 2.0**-64
    accepted = uniform < chance * (1 - _RELATIVE) - _ABSOLUTE
    unsure = ~accepted & (uniform <= chance * (1 + _RELATIVE) + _ABSOLUTE) & usable
    for index in np.flatnonzero(unsure):
        exact = fraction(int(jumps[index]), int(offsets[index]))
        # It begins with the bits that were compared: fresh ones would be drawn knowing
        # that these were undecided.
        lazy = _LazyUniform(int(words[2][index]), 64, draw)
        accepted[index] = lazy.is_below_exp(*exact)
    signed: NDArray[np.int64] = jumps * scale + offsets
    signed[negative] *= -1
    kept: NDArray[np.int64] = signed[accepted & usable]
    return kept


def _geometric(words: NDArray[np.uint64], draw: Draw) -> NDArray[np.int64]:
    """Draws k >= 1 with U < exp(-k / 2), for U that begin with these 64 bits."""
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
        """True if the number is below exp(-numerator / denominator), exactly.

        Ends with probability 1; each round of 64 bits decides all but 2^-63.
        """
        if numerator == 0:
            return True
        while True:
            least, most = _exp_bounds(numerator, denominator, self.length)
            # The number lies somewhere in [bits, bits + 1) / 2^length.
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
