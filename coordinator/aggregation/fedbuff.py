"""Normalised FedBuff with server momentum, in integers.

    D     = sum_i w_i S_i / sum_i w_i n_i
    m     = beta m + D
    theta = theta - eta m
    a     = kappa a + (1 - kappa) theta

`S_i` is update i's gradient sum over its pledged `n_i` examples and `w_i` its weight by
staleness, so that D is a weighted mean gradient and the server steps against it. Each
line rounds once, to nearest, ties to even; sums are exact, so that order cannot matter.

No step leaves int64. |S_i| < 2^38, w_i <= 2^15 and at most 2^10 updates: the sum stays
below 2^63. sum w_i n_i <= 2^15 2^20 2^10 = 2^45. |D| <= 2^38 since n_i >= 1. m is held
within 2^45, so that eta m is below 2^53 for eta < 2^8; theta and a are held within
2^38, the range of the grid, and 2^16 times that is below 2^55.

Source: Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation",
AISTATS 2022, Algorithm 1, with the sum divided by its weights instead of K.
"""

from collections.abc import Iterable

import numpy as np

from coordinator.aggregation.rounding import divide_half_even, multiply_q16
from coordinator.aggregation.strategy import Aggregator, ModelState, WeightedUpdate
from protocol.errors import AggregationError
from protocol.task import BUFFER_MAX, Q16, AggregationPolicy
from protocol.vectors import MAGNITUDE_BITS, Grid

MOMENTUM_MAX = 1 << 45
PARAMETER_MAX = (1 << MAGNITUDE_BITS) - 1


def fedbuff(policy: AggregationPolicy) -> Aggregator:
    """The strategy with a task's learning rate, momentum and average."""

    def apply(state: ModelState, updates: Iterable[WeightedUpdate]) -> ModelState:
        mean = weighted_mean(state.theta.size, updates)
        momentum = _hold(
            multiply_q16(state.momentum, policy.momentum_q16) + mean, MOMENTUM_MAX
        )
        step = multiply_q16(momentum, policy.learning_rate_q16)
        theta = _hold(state.theta - step, PARAMETER_MAX)
        kept = policy.average_q16
        average = divide_half_even(kept * state.average + (Q16 - kept) * theta, Q16)
        return ModelState(theta, momentum, average)

    return Aggregator(init, apply)


def init(theta: Grid) -> ModelState:
    """Version 0: no momentum yet, and an average of one."""
    return ModelState(theta, np.zeros_like(theta), theta.copy())


def weighted_mean(dimension: int, updates: Iterable[WeightedUpdate]) -> Grid:
    """The mean `sum w S / sum w n`, rounded once.

    Raises:
      AggregationError: If there is no update, or none with a weight.
    """
    total = np.zeros(dimension, np.int64)
    examples = 0
    count = 0
    for update in updates:
        total += update.vector * update.weight_q15
        examples += update.weight_q15 * update.pledge
        count += 1
    assert count <= BUFFER_MAX
    if examples == 0:
        raise AggregationError(f"{count} updates with no weight at all")
    return divide_half_even(total, examples)


def _hold(values: Grid, most: int) -> Grid:
    held: Grid = np.clip(values, -most, most)
    return held
