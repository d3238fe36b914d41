"""FedBuff with server momentum, in integers.

    D     = sum_i w_i S_i / sum_i n_i
    m     = beta m + D
    theta = theta - eta m
    a     = kappa a + (1 - kappa) theta

`S_i` is update i's gradient sum over its pledged `n_i` examples and `w_i` its weight by
staleness, at most 1; the server steps against D. The sum is divided by all examples and
not by their weights: a buffer of updates that are all equally late then takes a shorter
step, where a weighted mean would cancel the weight and, from a staleness of two on,
diverge (a step that is repeated `tau` times before its effect is seen is stable only
while its gain stays below `2 sin(pi / (2 (2 tau + 1)))`).

Each line rounds once, to nearest, ties to even; sums are exact, so that order cannot
matter.

No step leaves int64. |S_i| < 2^38, w_i <= 2^15 and at most 2^10 updates: the sum stays
below 2^63. 2^15 sum n_i <= 2^15 2^20 2^10 = 2^45. |D| <= 2^38 since n_i >= 1. m is held
within 2^45, so that eta m is below 2^53 for eta < 2^8; theta and a are held within
2^38, the range of the grid, and 2^16 times that is below 2^55.

Source: Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation",
AISTATS 2022, Algorithm 1 and section 3 (weights by staleness), with the sum divided by
the number of examples instead of K; Levin and May, "A note on difference-delay
equations", 1976 (the bound on the gain).
"""

from collections.abc import Iterable

import numpy as np

from starling.coordinator.aggregation.integer_rounding import (
    divide_half_even,
    multiply_q16,
)
from starling.coordinator.aggregation.strategy import (
    Aggregator,
    ModelState,
    WeightedUpdate,
)
from starling.protocol.errors import AggregationError
from starling.protocol.learning.task import BUFFER_MAX, Q15, Q16, AggregationPolicy
from starling.protocol.learning.vector_codecs import MAGNITUDE_BITS, Grid

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
    """The mean `sum w S / sum n`, rounded once.

    Raises:
      AggregationError: If there is no update.
    """
    total = np.zeros(dimension, np.int64)
    examples = 0
    count = 0
    for update in updates:
        total += update.vector * update.weight_q15
        examples += update.pledge
        count += 1
    assert count <= BUFFER_MAX
    if examples == 0:
        raise AggregationError("there is no update")
    return divide_half_even(total, Q15 * examples)


def _hold(values: Grid, most: int) -> Grid:
    held: Grid = np.clip(values, -most, most)
    return held
