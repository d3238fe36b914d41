"""Exact division of integer vectors, to nearest, ties to even.

Every coordinator must get the same bytes, so nothing here passes through a float.

Source: IEEE 754-2019 section 4.3.1 (roundTiesToEven), on integers.
"""

from starling.protocol.learning.vector_codecs import Grid

Q16_BITS = 16
_HALF = 1 << (Q16_BITS - 1)
_LOW = (1 << Q16_BITS) - 1


def divide_half_even(values: Grid, divisor: int) -> Grid:
    """Divides by a positive integer.

    Args:
      values: (d,) int64, any value.
      divisor: In [1, 2^62), so that twice a remainder stays inside int64.

    Returns:
      (d,) int64.
    """
    assert 1 <= divisor < 1 << 62
    quotient = values // divisor
    twice = 2 * (values - quotient * divisor)
    up = (twice > divisor) | ((twice == divisor) & (quotient & 1 == 1))
    quotient += up
    return quotient


def multiply_q16(values: Grid, factor_q16: int) -> Grid:
    """Multiplies by a factor in units of 2^-16 and rounds.

    The product is built from the upper bits and the lower 16 bits apart, so that it
    may need more than 64 bits on the way: with |values| <= 2^45 and a factor of at
    most 2^24 no part passes 2^54.

    Args:
      values: (d,) int64, magnitudes at most 2^45.
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
