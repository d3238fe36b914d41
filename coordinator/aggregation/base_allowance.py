"""The limit on what the updates of one base do: a step and a half together.

Versions in a row that are made from one base add the same step again and again: ten of
them, each weighted by staleness, go 2.9 times as far as one. Where an update is a whole
local optimum, more than twice the way leaves the model farther off than it was. Who
grants leases keeps to a buffer and a half of one base; this keeps everybody to it, also
after a coordinator that stood still, or lies.

    gain_b  = sum_{i of b} w_i n_i / sum_i n_i       of base b in this version
    share_b = min(1, (3/2 - all gains of b before) / gain_b)

The memory is a row for each base that may come again, by rising base: the base, and its
gains so far in units of 2^-15.

Source: a step that is repeated is stable only while all that is added of it stays below
2, Levin and May, "A note on difference-delay equations", 1976.
"""

from collections.abc import Mapping

import numpy as np

from starling.coordinator.aggregation.integer_rounding import ratio_half_even
from starling.protocol.learning.task import Q15, Q16
from starling.protocol.learning.vector_codecs import Grid

ALLOWED_Q15 = 3 * Q15 // 2


class BaseAllowance:
    """Steps that each base has taken, and may still take."""

    def __init__(self, memory: Grid) -> None:
        """Reads the memory of the version before.

        Args:
          memory: Rows as above, one after another; empty for version 0.
        """
        rows = memory.reshape(-1, 2).tolist()
        self._taken: dict[int, int] = {int(base): int(gain) for base, gain in rows}

    def may_be_short(self, base: int) -> bool:
        """True if a version made of this base alone, all on time, would go too far."""
        return self._taken.get(base, 0) + Q15 > ALLOWED_Q15

    def too_much_q16(self, weights: Mapping[int, int], examples: int) -> dict[int, int]:
        """Notes a version, and says what it has to leave out.

        Args:
          weights: By base, the sum of w n in units of 2^-15.
          examples: The sum of n, over all bases.

        Returns:
          By base, the part of its updates that is too much, in units of 2^-16; only of
          those that have any.
        """
        found = {}
        for base in sorted(weights):
            gain = ratio_half_even(weights[base], examples)
            taken = self._taken.get(base, 0)
            over = taken + gain - ALLOWED_Q15
            if over > 0:
                found[base] = ratio_half_even(Q16 * over, gain)
            self._taken[base] = min(taken + gain, ALLOWED_Q15)
        return found

    def memory(self, oldest: int) -> Grid:
        """The rows of the version that was noted.

        Args:
          oldest: The first base that the next version may name.
        """
        kept = sorted(item for item in self._taken.items() if item[0] >= oldest)
        return np.array(kept, np.int64).reshape(-1)


def allowance_words(staleness_max: int) -> int:
    """The longest memory, in integers of 8 bytes."""
    return 2 * staleness_max
