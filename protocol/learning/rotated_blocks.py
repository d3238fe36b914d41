"""Blocks of an update rotated and rounded to 4, 2 or 1 bits: EDEN on exact integers.

A block `x` of n = 256 parameters is rotated to `y = H S2 H S1 x`, with the Hadamard
matrix `H` of ones and minus ones and diagonals `S1`, `S2` of random signs, so that all
of `y` is about normal whatever `x` was. Each of `y` is rounded to the nearest of 2^bits
odd levels `l`, and

    x' = s S1 H S2 H l        with        s = |x|^2 / <y, l>

is what is decoded. The scale makes `<x, x'> = |x|^2` for every rotation, and what is
orthogonal to x averages out over rotations: x' is unbiased, as far as y is normal.
One rotation is not enough for that: of a block (2, 1, 0, 0, ...) every `y` is 3 or 1 in
magnitude, and one bit each gives (2.5, 0, 0, ...) for every S1. Two are; the tests try
sparse, equal and heavy-tailed blocks.

Decoding adds and subtracts integers, multiplies by 16 bits and shifts, and thus gives
the same on every machine. Encoding rounds a square root and a quotient of floats, each
correctly rounded by IEEE 754, and is as repeatable.

Letters: `b` blocks of n parameters.

Source: Suresh et al., ICML 2017, arXiv:1611.00429, section 3 (randomised Hadamard
rotation); Vargaftik et al., ICML 2022, arXiv:2108.08842, algorithm 1 (EDEN with its
unbiased scale; levels are uniform in place of Lloyd and Max's), and NeurIPS 2021,
arXiv:2105.08339 (DRIVE, which is its one bit).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from starling.protocol.ids import H
from starling.protocol.learning.codec_terms import BLOCK

Integers = NDArray[np.int64]
Signs = NDArray[np.int32]
_Integer = TypeVar("_Integer", np.int32, np.int64)

VALUE_MAX = (1 << 26) - 1
"""Magnitude of what is rotated, so that squares and products of a block fit int64."""
MANTISSA_BITS = 16
SCALE_EXPONENT_MIN = -40
"""At which all that is decoded is less than half a unit."""
SCALE_EXPONENT_MAX = 15
"""Beyond which all that could be decoded is out of range."""
_GAIN = BLOCK
"""Of the length by two rotations, each without its factor `1 / sqrt(n)`."""
_STEP = {1: 1.0, 2: 0.9957, 4: 0.3352}
"""Distance of neighbouring levels for a normal variable, by bits; of one bit only the
sign counts. Source: Max 1960, "Quantizing for minimum distortion", table II."""


@dataclass(frozen=True)
class RotatedBlocks:
    """Blocks as they travel.

    Attributes:
      seed: Of the signs.
      exponents: (b,) int8; -40 where the mantissa is 0.
      mantissas: (b,) uint16; 0, or at least 2^15. A scale is `mantissa * 2^exponent`.
      levels: (b, 256) int32, odd.
    """

    seed: bytes
    exponents: NDArray[np.int8]
    mantissas: NDArray[np.uint16]
    levels: NDArray[np.int32]


def quantised(
    rows: Integers,
    exponents: Integers,
    bits: int,
    seed: bytes,
    uniform: Callable[[int], NDArray[np.float64]],
    most: int,
) -> RotatedBlocks:
    """Rotates and rounds blocks; their scales are rounded without bias.

    Args:
      rows: (b, 256), magnitudes of at most `VALUE_MAX`.
      exponents: (b,), by which powers of two each row stands, in the decoder's unit.
      bits: 4, 2 or 1.
      seed: Fresh and random, so that nobody knows the rotation before the update.
      uniform: Draws so many numbers in [0, 1), secure.
      most: Magnitude that no decoded value may pass; what would saturates.
    """
    turned = _rotated(rows, *_signs(seed))
    energy = (rows * rows).sum(1)
    root = np.sqrt(energy.astype(np.float64))
    # At least 1, also for a block of zeros, which would be divided by nothing.
    step = np.maximum(root * (_STEP[bits] * _GAIN / BLOCK**0.5), 1.0).astype(np.int64)
    half = 1 << (bits - 1)
    levels = 2 * np.clip(turned // step[:, None], -half, half - 1) + 1
    # Of a block of zeros both are 0; the scale is then 0 and not a division by 0.
    agreement = np.maximum((turned * levels).sum(1), 1)
    scale = energy / agreement
    # A block of which hardly anything survives would come out far longer than it was.
    longest = (1 + 2.0**-bits) * root / (_GAIN * np.sqrt((levels * levels).sum(1)))
    scale = np.ldexp(np.minimum(scale, longest), exponents.astype(np.int32))
    narrow = levels.astype(np.int32)
    largest = np.abs(_unrotated(narrow, seed)).max(1)
    # With room for one step of a mantissa's 16 bits, by which a scale may be rounded
    # up.
    scale = np.minimum(scale, most * (1 - 2.0**-MANTISSA_BITS * 4) / largest)
    found = _scales(scale, uniform(len(rows)))
    return RotatedBlocks(seed, *found, narrow)


def _scales(
    scale: NDArray[np.float64], uniform: NDArray[np.float64]
) -> tuple[NDArray[np.int8], NDArray[np.uint16]]:
    """Exponents and mantissas, rounded up as often as its remainder says."""
    fraction, power = np.frexp(scale)
    mantissa = np.floor(np.ldexp(fraction, MANTISSA_BITS) + uniform).astype(np.int64)
    # Rounded up to 2^16 a mantissa belongs to the next exponent.
    carried = mantissa >> MANTISSA_BITS
    # By 0 or 1: only 2^16 itself carries.
    mantissa >>= carried
    exponent = power + carried - MANTISSA_BITS
    gone = (exponent < SCALE_EXPONENT_MIN) | (scale <= 0)
    exponent = np.where(gone, SCALE_EXPONENT_MIN, exponent)
    mantissa = np.where(gone, 0, mantissa)
    return exponent.astype(np.int8), mantissa.astype(np.uint16)


def restored(blocks: RotatedBlocks) -> Integers:
    """The values of blocks, (b, 256); exact, then rounded half up to the unit."""
    found = _unrotated(blocks.levels, blocks.seed).astype(np.int64)
    found *= blocks.mantissas.astype(np.int64)[:, None]
    power = blocks.exponents.astype(np.int64)[:, None]
    down = np.maximum(-power, 0)
    # Half a unit before the shift: rounded half up, in integers alone.
    found += (np.int64(1) << down) >> 1
    found >>= down
    return found << np.maximum(power, 0)


def _rotated(rows: Integers, first: Signs, second: Signs) -> Integers:
    return _transformed(_transformed(rows * first) * second)


def _unrotated(rows: NDArray[np.int32], seed: bytes) -> NDArray[np.int32]:
    first, second = _signs(seed)
    return _transformed(_transformed(rows) * second) * first


def _transformed(rows: NDArray[_Integer]) -> NDArray[_Integer]:
    """Rows times the Hadamard matrix of Sylvester's order, without a factor."""
    # Blocks lie in columns meanwhile, so that what is added is contiguous.
    found = rows.T.copy()
    other, width = np.empty_like(found), 1
    while width < BLOCK:
        shape = (-1, 2, width, len(rows))
        pairs, sums = found.reshape(shape), other.reshape(shape)
        np.add(pairs[:, 0], pairs[:, 1], out=sums[:, 0])
        np.subtract(pairs[:, 0], pairs[:, 1], out=sums[:, 1])
        found, other, width = other, found, 2 * width
    return found.T


def _signs(seed: bytes) -> tuple[Signs, Signs]:
    """S1 and S2, each (256,): a bit of 1 is a minus, lowest bits first."""
    digests = (H(b"starling/rotation/%d" % turn, seed) for turn in (1, 2))
    first, second = (
        np.unpackbits(np.frombuffer(digest, np.uint8), bitorder="little")
        for digest in digests
    )
    return 1 - 2 * first.astype(np.int32), 1 - 2 * second.astype(np.int32)
