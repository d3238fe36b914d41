"""Synchronous FedAvg: the mean of the boards' models, weighted by their examples.

    theta_{t+1} = sum_k (n_k / n) theta_k = theta_t - sum_k n_k (theta_t - theta_k) / n

Every update of a version was trained from the version before it: the task says
`staleness_max = 0`. An update is `n_k` times the way that a board went, reversed, or in
mode gradient its gradient sum; then this is FedSGD with the server's learning rate.

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from
Decentralized Data", AISTATS 2017, section 2 (FedSGD) and Algorithm 1; the worked
example of the tests: boards of 1,000 and 2,000 examples at [0.1, 0.2] and [0.3, 0.4]
give [0.233, 0.333].
"""

from collections.abc import Iterable

from starling.coordinator.aggregation.integer_rounding import multiply_q16
from starling.coordinator.aggregation.server_step import (
    initial_state,
    moved,
    weighted_mean,
)
from starling.coordinator.aggregation.strategy import (
    Aggregator,
    ModelState,
    WeightedUpdate,
)
from starling.protocol.learning.task import AggregationPolicy


def fedavg(policy: AggregationPolicy, noise_variance: int = 0) -> Aggregator:
    """FedAvg; its average is a task's, its momentum none.

    Source: McMahan et al., AISTATS 2017, Algorithm 1.
    """
    del noise_variance

    def apply(
        state: ModelState, updates: Iterable[WeightedUpdate], version: int
    ) -> ModelState:
        del version
        mean = weighted_mean(state.theta.size, updates)
        step = multiply_q16(mean, policy.learning_rate_q16)
        return moved(policy, state, step, state.momentum, None)

    return Aggregator(initial_state, apply)
