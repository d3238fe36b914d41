"""The mean of update vectors, with what stands out in their main directions cut off.

What colluders add stands out in one direction, however wide the noise is in all others.
Rows are projected on the direction in which they differ most; a projection far from the
median of all is set back to a few times their median distance from it. The next
direction is found in what is left. Unlike rules that drop rows, a row that is unlike
others in an honest way (a board with rare classes) keeps all else that it says.

Directions are combinations of rows, so that all but one sum works on the n x n products
of rows. Everything is in integers, and the same on every machine.

Letters: `n` rows, `d` coordinates.

Source: Shejwalkar and Houmansadr, "Manipulating the Byzantine", NDSS 2021, section V
(DnC: outliers along the top singular vector), with setting back in place of removal.
"""

from collections.abc import Sequence

import numpy as np

from starling.coordinator.aggregation.integer_rounding import (
    divide_half_even,
    ratio_half_even,
)
from starling.coordinator.aggregation.robust.row_distances import squared_distances
from starling.protocol.learning.vector_codecs import Grid

DIRECTIONS = 2
POWER_STEPS = 24
REACH = 6
"""Median distances from the median at which an outlier is set back. With three, a fleet
whose boards hold two classes each lost 1.6 points without any attacker."""
_ENTRY_BITS = 24
_SUM_BITS = 62
_DIFFERENCE_BITS = 41

Products = list[list[int]]
"""n x n inner products, symmetric, in whatever unit."""


def spectral_clipping(
    rows: Grid, weights: Sequence[int], directions: int = DIRECTIONS
) -> Grid:
    """The weighted mean of rows whose outlying parts are set back.

    Args:
      rows: (n, d) int64, magnitudes at most 2^40.
      weights: (n,) positive, at most 2^10: how much each counts in the mean.
      directions: How many are looked at.

    Returns:
      (d,) int64.
    """
    share = np.array(weights, np.int64)
    mean = divide_half_even(share @ rows, int(share.sum()))
    apart = rows - mean
    # Of all rows with shares of at most 1 no sum leaves int64.
    unit = 1 << (_SUM_BITS - _DIFFERENCE_BITS - len(rows).bit_length())
    products = _centred(squared_distances(rows).tolist())
    moved = np.zeros_like(mean)
    for _ in range(directions):
        found = _main_direction(products)
        projections = _applied(products, found)
        length = _dot(found, projections)
        if length <= 0:
            break
        excess = _set_back(projections)
        total = sum(w * each for w, each in zip(weights, excess, strict=True))
        shares = [
            ratio_half_even(total * each * unit, sum(weights) * length)
            for each in found
        ]
        held = np.clip(np.array(shares, object), -unit, unit).astype(np.int64)
        moved += divide_half_even(held @ apart, unit)
        products = _without(products, projections, length)
    return mean + moved


def _centred(squared: Products) -> Products:
    """Inner products of rows about their plain mean, times 2 n^2, from distances."""
    count = len(squared)
    each = [sum(row) for row in squared]
    total = sum(each)
    return [
        [
            count * (each[i] + each[j]) - total - count * count * squared[i][j]
            for j in range(count)
        ]
        for i in range(count)
    ]


def _main_direction(products: Products) -> list[int]:
    """The combination of rows along which they differ most, by the power method."""
    count = len(products)
    most = max(range(count), key=lambda row: (products[row][row], -row))
    found = _short(products[most])
    for _ in range(POWER_STEPS):
        found = _short(_applied(products, found))
    return found


def _short(vector: Sequence[int]) -> list[int]:
    """In proportion, with entries of so many bits that the method goes on with."""
    longest = max(abs(each) for each in vector).bit_length()
    if longest <= _ENTRY_BITS:
        return list(vector)
    half = 1 << (longest - _ENTRY_BITS - 1)
    return [(each + half) >> (longest - _ENTRY_BITS) for each in vector]


def _applied(products: Products, vector: Sequence[int]) -> list[int]:
    return [_dot(row, vector) for row in products]


def _dot(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _set_back(projections: Sequence[int]) -> list[int]:
    """The changes that bring each projection within reach of the median."""
    middle = sorted(projections)[len(projections) // 2]
    spread = sorted(abs(each - middle) for each in projections)
    reach = REACH * spread[len(spread) // 2]
    least, most = middle - reach, middle + reach
    return [min(max(each, least), most) - each for each in projections]


def _without(products: Products, projections: Sequence[int], length: int) -> Products:
    """Inner products of what is left of the rows without a direction."""
    return [
        [
            ratio_half_even(each * length - one * other, length)
            for each, other in zip(row, projections, strict=True)
        ]
        for row, one in zip(products, projections, strict=True)
    ]
