"""FedBuff with server momentum: a buffer's weighted sum over all its examples.

The sum is divided by all examples and not by their weights: a buffer of updates that
are all equally late then takes a shorter step, where a weighted mean would cancel the
weight and, from a staleness of two on, diverge (a step that is repeated `tau` times
before its effect is seen is stable only while its gain stays below
`2 sin(pi / (2 (2 tau + 1)))`). What a base has brought in all its versions together is
held within a step and a half (`coordinator.aggregation.base_allowance`).

Source: Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation",
AISTATS 2022, Algorithm 1 and section 3 (weights by staleness), with the sum divided by
the number of examples instead of K; Levin and May, "A note on difference-delay
equations", 1976 (the bound on the gain).
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from starling.coordinator.aggregation.base_allowance import BaseAllowance
from starling.coordinator.aggregation.integer_rounding import (
    divide_half_even,
    multiply_q16,
)
from starling.coordinator.aggregation.server_step import (
    WeightedSum,
    initial_state,
    momentum_step,
)
from starling.coordinator.aggregation.strategy import (
    Aggregator,
    ModelState,
    WeightedUpdate,
)
from starling.protocol.learning.task import Q15, AggregationPolicy
from starling.protocol.learning.vector_codecs import Grid


def fedbuff(policy: AggregationPolicy, noise_variance: int = 0) -> Aggregator:
    """FedBuff with a task's learning rate, momentum and average.

    Source: Nguyen et al., AISTATS 2022, Algorithm 1.
    """
    del noise_variance

    def apply(
        state: ModelState, updates: Iterable[WeightedUpdate], version: int
    ) -> ModelState:
        allowance = BaseAllowance(state.memory)
        buffer = WeightedSum(state.theta.size)
        weights: Counter[int] = Counter()
        totals: dict[int, Grid] = {}
        for update in buffer.drain(updates):
            base = update.base
            weights[base] += update.weight_q15 * update.pledge
            if allowance.may_be_short(base):
                total = totals.setdefault(base, np.zeros_like(buffer.total))
                total += update.vector * update.weight_q15
        mean = buffer.mean()
        too_much = allowance.too_much_q16(weights, buffer.examples)
        for base, part_q16 in too_much.items():
            brought = divide_half_even(totals[base], Q15 * buffer.examples)
            mean -= multiply_q16(brought, part_q16)
        memory = allowance.memory(version - policy.staleness_max)
        return momentum_step(policy, state, mean, memory)

    return Aggregator(initial_state, apply)
