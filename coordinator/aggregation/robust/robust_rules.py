"""Robust means of update vectors, each a pure function in exact integers.

Letters: `n` rows, `d` coordinates, `f` rows that may be anything; rows are (n, d)
int64, magnitudes at most 2^40, n from 1 to 2^10. Each rule returns (d,) int64 within
the rows' range, and the same for rows in one order on every machine; ties go to lower
rows. Where `f` is too large for n, the largest that the rule can bear is taken. A mean
of rows is rounded once, to nearest, ties to even.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from starling.coordinator.aggregation.integer_rounding import divide_half_even
from starling.coordinator.aggregation.robust.row_distances import (
    distances_to,
    nearest,
    rounded,
    squared_distances,
)
from starling.protocol.learning.task import Q16
from starling.protocol.learning.vector_codecs import Grid

ROW_BITS = 40
WEISZFELD_STEPS = 8
CLIPPING_STEPS = 3
_SUM_BITS = 62


def mean(rows: Grid) -> Grid:
    """The mean of the rows."""
    return divide_half_even(rows.sum(axis=0), len(rows))


def median(rows: Grid) -> Grid:
    """The median of each coordinate; of an even number the mean of the middle two.

    Source: Yin et al., "Byzantine-robust distributed learning: towards optimal
      statistical rates", ICML 2018, arXiv:1803.01498, definition 1.
    """
    ordered = np.sort(rows, axis=0)
    return mean(ordered[(len(rows) - 1) // 2 : len(rows) // 2 + 1])


def trimmed_mean(rows: Grid, f: int) -> Grid:
    """The mean of each coordinate without its f largest and f smallest values.

    Source: Yin et al., ICML 2018, definition 2.
    """
    trimmed = min(f, (len(rows) - 1) // 2)
    return mean(np.sort(rows, axis=0)[trimmed : len(rows) - trimmed])


def krum(rows: Grid, f: int) -> Grid:
    """The row that is nearest to its n - f - 2 nearest others.

    Source: Blanchard et al., "Machine learning with adversaries: Byzantine tolerant
      gradient descent", NeurIPS 2017, section 4.
    """
    best: Grid = rows[_by_krum(rows, f)[0]].copy()
    return best


def multi_krum(rows: Grid, f: int) -> Grid:
    """The mean of the n - f rows with the best scores of Krum.

    Source: Blanchard et al., NeurIPS 2017, section 4 (Multi-Krum).
    """
    chosen = _by_krum(rows, f)[: max(1, len(rows) - f)]
    return mean(rows[chosen])


def _by_krum(rows: Grid, f: int) -> list[int]:
    """The rows, best score first: sums of squared distances to near ones."""
    return _krum_order(squared_distances(rows), list(range(len(rows))), f)


def _krum_order(
    squared: NDArray[np.object_], among: Sequence[int], f: int
) -> list[int]:
    near = max(1, len(among) - f - 2)

    def score(row: int) -> int:
        to = sorted(squared[row, other] for other in among if other != row)
        return sum(to[:near])

    return sorted(among, key=lambda row: (score(row), row))


def bulyan(rows: Grid, f: int) -> Grid:
    """Krum's choices, one by one, then the values of each coordinate near its median.

    n - 2f rows are chosen; of each coordinate the n - 4f values nearest to the median
    are averaged. Needs n >= 4f + 3; f is lowered to that.

    Source: El Mhamdi, Guerraoui, Rouault, "The hidden vulnerability of distributed
      learning in Byzantium", ICML 2018, arXiv:1802.07927, section 4.
    """
    count = len(rows)
    bearable = max(0, min(f, (count - 3) // 4))
    squared, left = squared_distances(rows), list(range(count))
    chosen: list[int] = []
    while len(chosen) < count - 2 * bearable:
        best = _krum_order(squared, left, bearable)[0]
        chosen.append(best)
        left.remove(best)
    ordered = np.sort(rows[chosen], axis=0)
    kept = len(chosen) - 2 * bearable
    # Twice the median is an integer.
    middle = ordered[(len(chosen) - 1) // 2] + ordered[len(chosen) // 2]
    order = np.argsort(np.abs(2 * ordered - middle), axis=0, kind="stable")[:kept]
    return mean(np.take_along_axis(ordered, order, axis=0))


def geometric_median(rows: Grid, steps: int = WEISZFELD_STEPS) -> Grid:
    """The point with the least sum of distances, by a fixed number of Weiszfeld steps.

    Weights are integers, in proportion to 1 / (distance + 1) and as fine as int64
    allows for: 2^12 to 2^22 units for the nearest row.

    Source: Pillutla, Kakade, Harchaoui, "Robust aggregation for federated learning",
      IEEE TSP 2022, arXiv:1912.13445, algorithm 2.
    """
    unit = 1 << (_SUM_BITS - ROW_BITS - len(rows).bit_length())
    point = mean(rows)
    for _ in range(steps):
        apart = distances_to(point, rows)
        least = min(apart) + 1
        weights = np.array([least * unit // (each + 1) for each in apart], np.int64)
        point = divide_half_even(weights @ rows, int(weights.sum()))
    return point


def centred_clipping(
    rows: Grid,
    centre: Grid | None = None,
    radius: int | None = None,
    steps: int = CLIPPING_STEPS,
) -> Grid:
    """Moves a centre by the rows' differences to it, each shortened to a radius.

    Args:
      rows: (n, d).
      centre: (d,) to begin from; the median of each coordinate, where it is left out.
        The paper begins with the last step, which a buffer of updates from several
        versions does not have.
      radius: The longest difference; the median of all, where it is left out.
      steps: How often.

    Source: Karimireddy, He, Jaggi, "Learning from history for Byzantine robust
      optimization", ICML 2021, arXiv:2012.10333, section 4 (CClip).
    """
    point = median(rows) if centre is None else centre
    for _ in range(steps):
        apart = distances_to(point, rows)
        most = sorted(apart)[len(apart) // 2] if radius is None else radius
        factors = [min(Q16, (most << 16) // max(1, each)) for each in apart]
        moved = (rows - point) * np.array(factors, np.int64)[:, None]
        # Each product stays below 2^57; shortened before they are summed.
        point = point + mean(rounded(moved, 16))
    return point


def centred_trimmed_mean(rows: Grid, f: int) -> Grid:
    """The mean of the n - f rows that are nearest to the median of each coordinate.

    Source: Dahan, Levy, "Fault tolerant ML: efficient meta-aggregation and synchronous
      training", ICML 2024, arXiv:2405.14759, algorithm 1 (CTMA), with that median for
      the first rule and equal weights.
    """
    apart = distances_to(median(rows), rows)
    order = sorted(range(len(rows)), key=lambda row: (apart[row], row))
    return mean(rows[order[: max(1, len(rows) - f)]])


def neighbour_mixed(rows: Grid, weights: Sequence[int], f: int) -> Grid:
    """Each row becomes the mean of the n - f rows that are nearest to it, (n, d).

    Args:
      rows: (n, d).
      weights: (n,) positive, at most 2^10: how much each counts in a mean.
      f: As above.

    Source: Allouah et al., "Fixing by mixing: a recipe for optimal Byzantine ML under
      heterogeneity", AISTATS 2023, arXiv:2302.01772, algorithm 2 (NNM).
    """
    count = len(rows)
    kept = max(1, count - f)
    squared = squared_distances(rows)
    weighted = rows * np.array(weights, np.int64)[:, None]
    total, everything = weighted.sum(axis=0), sum(weights)
    mixed = np.empty_like(rows)
    for row in range(count):
        near = set(nearest(squared, row, kept))
        left_out = [each for each in range(count) if each not in near]
        total_near = total - weighted[left_out].sum(axis=0)
        share = everything - sum(weights[each] for each in left_out)
        mixed[row] = divide_half_even(total_near, share)
    return mixed


def tolerated(count: int) -> int:
    """f, rows of a buffer that may be anything: a quarter, rounded up.

    With a fifth of the boards bad, a buffer of ten has more than three bad updates in
    one of eight versions.
    """
    return math.ceil(count / 4)
