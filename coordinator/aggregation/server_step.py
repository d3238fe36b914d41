"""The sum of a buffer, and the step that it becomes; what all strategies share.

    D     = sum_i w_i S_i / sum_i n_i
    m     = beta m + D
    theta = theta - eta m
    a     = kappa a + (1 - kappa) theta

`S_i` is update i's gradient sum over its pledged `n_i` examples and `w_i` its weight by
staleness, at most 1; the server steps against D. Each line rounds once, to nearest,
ties to even; sums are exact, so that order cannot matter.

No step leaves int64. |S_i| < 2^38, w_i <= 2^15 and at most 2^10 updates: the sum stays
below 2^63. 2^15 sum n_i <= 2^15 2^20 2^10 = 2^45. |D| <= 2^38 since n_i >= 1. m is held
within 2^45, so that eta m is below 2^53 for eta < 2^8; theta and a are held within
2^38, the range of the grid, and 2^16 times that is below 2^55.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from starling.coordinator.aggregation.integer_rounding import (
    divide_half_even,
    multiply_q16,
)
from starling.coordinator.aggregation.strategy import ModelState, WeightedUpdate
from starling.protocol.errors import AggregationError
from starling.protocol.learning.task import BUFFER_MAX, Q15, Q16, AggregationPolicy
from starling.protocol.learning.vector_codecs import MAGNITUDE_BITS, Grid

MOMENTUM_MAX = 1 << 45
PARAMETER_MAX = (1 << MAGNITUDE_BITS) - 1


class WeightedSum:
    """A buffer's sum, update by update.

    Attributes:
      total: (d,) int64, the sum of w S in units of 2^-39.
      examples: The sum of n.
      weight: The sum of w n in units of 2^-15.
      squares: The sum of w^2 in units of 2^-30.
    """

    def __init__(self, dimension: int) -> None:
        """Nothing is in it."""
        self.total: Grid = np.zeros(dimension, np.int64)
        self.examples = 0
        self.weight = 0
        self.squares = 0
        self._count = 0

    def drain(self, updates: Iterable[WeightedUpdate]) -> Iterator[WeightedUpdate]:
        """Adds each update and passes it on; only one is held at a time."""
        for update in updates:
            self.total += update.vector * update.weight_q15
            self.examples += update.pledge
            self.weight += update.weight_q15 * update.pledge
            self.squares += update.weight_q15**2
            self._count += 1
            assert self._count <= BUFFER_MAX
            yield update

    def mean(self) -> Grid:
        """D: the sum over all examples, rounded once.

        Raises:
          AggregationError: If there is no update.
        """
        if self.examples == 0:
            raise AggregationError("there is no update")
        return divide_half_even(self.total, Q15 * self.examples)


def weighted_mean(dimension: int, updates: Iterable[WeightedUpdate]) -> Grid:
    """The mean `sum w S / sum n` of a buffer, rounded once.

    Raises:
      AggregationError: If there is no update.
    """
    buffer = WeightedSum(dimension)
    for _ in buffer.drain(updates):
        pass
    return buffer.mean()


def initial_state(theta: Grid) -> ModelState:
    """Version 0: no momentum yet, an average of one, nothing remembered."""
    return ModelState(theta, np.zeros_like(theta), theta.copy())


def momentum_step(
    policy: AggregationPolicy, state: ModelState, mean: Grid, memory: Grid | None = None
) -> ModelState:
    """The state after a step against a mean.

    Args:
      policy: Learning rate, momentum and average.
      state: Before it.
      mean: (d,) int64, D.
      memory: Of the state after it; none by default.
    """
    momentum = held(
        multiply_q16(state.momentum, policy.momentum_q16) + mean, MOMENTUM_MAX
    )
    step = multiply_q16(momentum, policy.learning_rate_q16)
    return moved(policy, state, step, momentum, memory)


def moved(
    policy: AggregationPolicy,
    state: ModelState,
    step: Grid,
    momentum: Grid,
    memory: Grid | None,
) -> ModelState:
    """The state with theta less a step, and its average.

    Args:
      policy: The average.
      state: Before it.
      step: (d,) int64, magnitudes below 2^62.
      momentum: (d,) int64, of the state after it.
      memory: As `momentum_step`.
    """
    theta = held(state.theta - step, PARAMETER_MAX)
    kept = policy.average_q16
    average = divide_half_even(kept * state.average + (Q16 - kept) * theta, Q16)
    if memory is None:
        return ModelState(theta, momentum, average)
    return ModelState(theta, momentum, average, memory)


def held(values: Grid, most: int) -> Grid:
    """Values within [-most, most]."""
    within: Grid = np.clip(values, -most, most)
    return within
