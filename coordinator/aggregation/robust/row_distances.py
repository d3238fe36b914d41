"""Distances between update vectors, in integers that are the same on every machine.

Letters: `n` rows, `d` coordinates; rows are (n, d) int64, magnitudes at most 2^40. A
distance is taken after all rows were rounded to `DISTANCE_BITS` bits of the largest
magnitude: on what is left, every product and sum is exact, whatever the order.
"""

import math

import numpy as np
from numpy.typing import NDArray

from starling.protocol.learning.vector_codecs import Grid

DISTANCE_BITS = 20
_TOGETHER = 1 << 18
"""Squares of differences, each below 2^42, whose sum stays inside int64."""


def rounding_shift(*rows: Grid) -> int:
    """By how many bits rows are shortened before distances are taken."""
    most = max(int(np.abs(each).max(initial=0)) for each in rows)
    return max(0, most.bit_length() - DISTANCE_BITS)


def rounded(rows: Grid, shift: int) -> Grid:
    """Rows in units of 2^shift, to nearest."""
    half = 1 << shift >> 1
    short: Grid = (rows + half) >> shift
    return short


def squared_distance(first: Grid, second: Grid) -> int:
    """The exact squared distance of two rounded rows, (d,) each."""
    total = 0
    for start in range(0, first.size, _TOGETHER):
        part = slice(start, start + _TOGETHER)
        difference = first[part] - second[part]
        total += int(np.einsum("i,i", difference, difference))
    return total


def squared_distances(rows: Grid) -> NDArray[np.object_]:
    """All pairs' squared distances, (n, n) Python integers, in one common unit."""
    count = len(rows)
    short = rounded(rows, rounding_shift(rows))
    found = np.zeros((count, count), object)
    for one in range(count):
        for other in range(one):
            distance = squared_distance(short[one], short[other])
            found[one, other] = found[other, one] = distance
    return found


def distances_to(centre: Grid, rows: Grid) -> list[int]:
    """Distances of rows to a point, rounded down, in the rows' own unit.

    Args:
      centre: (d,).
      rows: (n, d).
    """
    shift = rounding_shift(centre, rows)
    middle, short = rounded(centre, shift), rounded(rows, shift)
    return [math.isqrt(squared_distance(middle, row) << 2 * shift) for row in short]


def nearest(squared: NDArray[np.object_], row: int, count: int) -> list[int]:
    """The rows that are nearest to one, itself first; ties go to the lower number.

    Args:
      squared: (n, n), as `squared_distances`.
      row: Which one.
      count: How many, at most n.
    """
    others = [each for each in range(len(squared)) if each != row]
    others.sort(key=lambda each: (squared[row, each], each))
    return [row, *others[: count - 1]]
