"""Clipping functions: scaling that bounds one record's share of a gradient sum.

| name | scale of a gradient of norm r, for a clip C | longest result |
|---|---|---|
| `norm` | min(1, C / r): short gradients stay as they are | C |
| `automatic` | C / (r + 0.01): all count about the same | below C |

Both give vectors of at most C, so that noise and charge are the same; C is then only a
unit for `automatic`, which has no clip to be tuned.

Source: Abadi et al. 2016, arXiv:1607.00133 (norm); Bu et al. 2023, arXiv:2206.07136,
section 4.2 (automatic, AUTO-S with gamma = 0.01).
"""

import math
from collections.abc import Sequence

NORM, AUTOMATIC = "norm", "automatic"
INSIDE = 1.0 - 2.0**-24
"""Share of a clip that a board aims at: more than float64 can err by up to d = 2^26."""
CLIPPINGS = (NORM, AUTOMATIC)
"""All of them; a bundle's manifest names one."""
AUTOMATIC_OFFSET = 0.01
NORM_MIN = 1e-30
"""Stands for a norm of 0 under a clip of 0."""

SUM_BLOCK = 1 << 12
"""Squares that are added up in one go; graphs then add up the sums of blocks."""
TENSORS_MAX = 1 << 12
"""Of a gradient; their sums are added up last."""
GRAPH_DIMENSION_MAX = 1 << 24
"""Most values in a gradient whose float32 norm bounds the true one well enough."""


def weights_lost(weights: Sequence[float], kind: str) -> str:
    """Warning about class weights that clipping takes away; empty if none are.

    A record's gradient is weighted first and clipped then.

    Args:
      weights: Of the classes; none for all alike.
      kind: One of `CLIPPINGS`.
    """
    if not weights or max(weights) == min(weights):
        return ""
    if kind == AUTOMATIC:
        return (
            "class weights do nothing under automatic clipping, by which all records "
            "count the same; take --clipping norm"
        )
    # A weight up to 1 shortens a gradient, which the clip leaves short.
    if max(weights) <= 1.0:
        return ""
    instead = ",".join(f"{weight / max(weights):.3g}" for weight in weights)
    return (
        "class weights above 1 are lost where each record's gradient is clipped after "
        f"its weight (record-level privacy); the same ratio without loss is {instead}"
    )


def scale_inside(norm: float, clip: float, kind: str) -> float:
    """The factor with which a board shortens one record's gradient, in float64.

    Args:
      norm: r, finite, at least 0, off by at most 2^-27 of itself.
      clip: C, above 0.
      kind: One of `CLIPPINGS`.
    """
    bound = clip * INSIDE
    if kind == AUTOMATIC:
        return bound / (norm + AUTOMATIC_OFFSET)
    return 1.0 if norm <= bound else bound / norm


def sum_depth(dimension: int) -> int:
    """Through how many additions a square goes at most on its way into the norm.

    A tensor is added up in blocks of `SUM_BLOCK` (at most twice as large, where that
    leaves no rest), its blocks are added up, and then the tensors, of which there are
    at most `TENSORS_MAX`. A norm that is a product of two has both on its way.

    Args:
      dimension: d, the number of values in a gradient.
    """
    return min(dimension, 4 * SUM_BLOCK + dimension // SUM_BLOCK + TENSORS_MAX)


def clip_margin(dimension: int) -> float:
    """Share of the clip that is given up, so that rounding never exceeds it.

    A float32 sum of squares, each of which goes through m additions in any order, is
    at least 1 - m 2^-24 of the true one, and its root at least the root of that. So
    with a bound of clip (1 - 2^-12) sqrt(1 - m 2^-24) no scaled gradient is longer
    than clip; 2^-12 covers the few roundings of root, quotient and products.

    Args:
      dimension: d, the number of values in a gradient. Above `GRAPH_DIMENSION_MAX`
        the whole clip is given up: nothing comes out, which is short enough.

    Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 4.2
    (sums of non-negative terms).
    """
    if dimension > GRAPH_DIMENSION_MAX:
        return 1.0
    depth = sum_depth(dimension)
    return 1.0 - (1.0 - 2.0**-12) * math.sqrt(1.0 - depth * 2.0**-24)


def clip_scale(norm: float, clip: float, dimension: int, kind: str) -> float:
    """The factor of one example's gradient, as private graphs compute it.

    Args:
      norm: r, at least 0.
      clip: C, at least 0.
      dimension: d.
      kind: One of `CLIPPINGS`.
    """
    bound = clip * (1.0 - clip_margin(dimension))
    if kind == AUTOMATIC:
        return bound / (norm + AUTOMATIC_OFFSET)
    return bound / max(norm, bound, NORM_MIN)
