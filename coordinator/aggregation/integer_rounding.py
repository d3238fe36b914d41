"""Exact division and products of integer vectors, to nearest, ties to even.

Every coordinator must get the same bytes, so nothing here passes through a float.

Source: IEEE 754-2019 section 4.3.1 (roundTiesToEven), on integers.
"""

import numpy as np

from starling.protocol.learning.vector_codecs import Grid

Q16_BITS = 16
_HALF = 1 << (Q16_BITS - 1)
_LOW = (1 << Q16_BITS) - 1
_LIMB_BITS = 20
_LIMB = (1 << _LIMB_BITS) - 1
_TOGETHER = 1 << 20


def divide_half_even(values: Grid, divisor: int) -> Grid:
    """Divides by a positive integer.

    Args:
      values: (d,) int64, any value.
      divisor: In [1, 2^62), so that twice a remainder stays inside int64.

    Returns:
      (d,) int64.
    """
    assert 1 <= divisor < 1 << 62
    return _rounded(values, divisor)


def divide_each_half_even(values: Grid, divisors: Grid) -> Grid:
    """Divides each value by its own positive divisor.

    Args:
      values: (d,) int64, any value.
      divisors: (d,) int64, each in [1, 2^62).
    """
    return _rounded(values, divisors)


def _rounded(values: Grid, divisor: int | Grid) -> Grid:
    quotient: Grid = values // divisor
    twice = 2 * (values - quotient * divisor)
    up = (twice > divisor) | ((twice == divisor) & (quotient & 1 == 1))
    quotient += up
    return quotient


def root_floor(values: Grid) -> Grid:
    """The square roots, rounded down, bit by bit.

    Args:
      values: (d,) int64 in [0, 2^62).

    Source: Woo, "Abacus", 1985 (one bit of the root a pass).
    """
    root = np.zeros_like(values)
    for bit in range(30, -1, -1):
        tried = root | (1 << bit)
        root = np.where(tried * tried <= values, tried, root)
    return root


def multiply_q16(values: Grid, factor_q16: int) -> Grid:
    """Multiplies by a factor in units of 2^-16 and rounds.

    The product is built from the upper bits and the lower 16 bits apart, so that it
    may need more than 64 bits on the way: no part passes |values| 2^-16 factor plus
    2^24, which stays inside int64 for |values| <= 2^45 and any factor, and for
    |values| <= 2^61 and a factor of at most 1.

    Args:
      values: (d,) int64, magnitudes as said.
      factor_q16: In [0, 2^24].

    Returns:
      (d,) int64.
    """
    assert 0 <= factor_q16 <= 1 << 24
    low = (values & _LOW) * factor_q16
    quotient = (values >> Q16_BITS) * factor_q16 + (low >> Q16_BITS)
    rest = low & _LOW
    quotient += (rest > _HALF) | ((rest == _HALF) & (quotient & 1 == 1))
    return quotient


def ratio_half_even(numerator: int, divisor: int) -> int:
    """As `divide_half_even` for one number without bound; the divisor is positive."""
    assert divisor >= 1
    quotient, rest = divmod(numerator, divisor)
    up = 2 * rest > divisor or (2 * rest == divisor and quotient & 1)
    return quotient + bool(up)


def exact_dot(first: Grid, second: Grid) -> int:
    """The sum of products, without bound.

    Both are cut into limbs of 20 bits; a million products of two limbs, each below
    2^41, stay inside int64 and are then added without bound.

    Args:
      first: (d,) int64, magnitudes below 2^40.
      second: Likewise.
    """
    total = 0
    for start in range(0, first.size, _TOGETHER):
        a, b = first[start : start + _TOGETHER], second[start : start + _TOGETHER]
        high_a, low_a = a >> _LIMB_BITS, a & _LIMB
        high_b, low_b = b >> _LIMB_BITS, b & _LIMB
        total += int(np.dot(high_a, high_b)) << 2 * _LIMB_BITS
        total += (int(np.dot(high_a, low_b)) + int(np.dot(low_a, high_b))) << _LIMB_BITS
        total += int(np.dot(low_a, low_b))
    return total
