"""The norm bound of tasks without noise: twice the median of past norms.

With noise the radius of an honest update is public (`coordinator.update.norm_bound`);
without it only the past tells how long one is. What is longer is shortened, so that
norms that grow for a reason raise the bound with time, while one board cannot.

The history is part of the model's state, so that every coordinator has the same: a
count and the last `NORMS_KEPT` norms, oldest first, in units of 2^-40 per example. A
norm of 0 tells nothing and is not kept: twice a median of 0 would hold the model for
good.
"""

import math
from collections.abc import Sequence

import numpy as np

from starling.coordinator.aggregation.integer_rounding import divide_half_even
from starling.protocol.learning.vector_codecs import Grid, norm_squared

NORMS_KEPT = 64
HISTORY_WORDS = NORMS_KEPT + 1
STRETCH = 2
_FINE_BITS = 16
_FACTOR_BITS = 24
_NORM_MAX = (1 << 62) - 1


def empty_history() -> Grid:
    """Of version 0."""
    return np.zeros(HISTORY_WORDS, np.int64)


def norm_per_example(vector: Grid, pledge: int) -> int:
    """The norm of an update over its examples, rounded down, in units of 2^-40."""
    fine = math.isqrt(norm_squared(vector) << 2 * _FINE_BITS)
    return min(fine // pledge, _NORM_MAX)


def radius(history: Grid, norms: Sequence[int]) -> int:
    """The longest norm that passes whole.

    Args:
      history: (HISTORY_WORDS,).
      norms: Of the buffer; they count where there is no past.
    """
    count = int(history[0])
    known = sorted(history[1 : 1 + count].tolist() if count else _moving(norms))
    if not known:
        return 0
    return min(STRETCH * int(known[(len(known) - 1) // 2]), _NORM_MAX)


def shortened(vector: Grid, norm: int, most: int) -> Grid:
    """A vector whose norm is `norm`, shortened to `most` if that is less."""
    if norm <= most:
        return vector
    factor = (most << _FACTOR_BITS) // norm
    return divide_half_even(vector * factor, 1 << _FACTOR_BITS)


def remembered(history: Grid, norms: Sequence[int]) -> Grid:
    """The history with a buffer's norms above 0 behind it, smallest first."""
    count = int(history[0])
    kept = [*history[1 : 1 + count].tolist(), *sorted(_moving(norms))][-NORMS_KEPT:]
    found = empty_history()
    found[0] = len(kept)
    found[1 : 1 + len(kept)] = kept
    return found


def _moving(norms: Sequence[int]) -> list[int]:
    return [norm for norm in norms if norm]
