"""FedAsync: the model goes a part of the way to where each board ended.

    theta_{t+1} = theta_t + alpha sum_i n_i s_i (y_i - theta_t) / sum_i n_i

`y_i = x_i - D_i` is where board i ended, `x_i` the theta that it began from, `s_i` its
weight by staleness and alpha the server's learning rate, at most 1. With a buffer of
one it is the paper's rule; of a larger one all are mixed at once, so that order does
not matter. With `r_i = x_i - theta_t` the step is that of FedBuff, less alpha s_i r_i:
what the model has moved since a board's base is not walked again.

Source: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", arXiv:1903.03934,
Algorithm 1 and section 5 (s of the staleness).
"""

from collections import Counter
from collections.abc import Iterable

from starling.coordinator.aggregation.base_history import base_theta, remembered
from starling.coordinator.aggregation.integer_rounding import (
    multiply_q16,
    ratio_half_even,
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
from starling.protocol.learning.task import Q15, Q16, AggregationPolicy


def fedasync(policy: AggregationPolicy, noise_variance: int = 0) -> Aggregator:
    """FedAsync with a task's alpha and weights by staleness.

    |r| < 2^39 and each share is at most 1: no product passes 2^55.

    Source: Xie, Koyejo, Gupta, arXiv:1903.03934, Algorithm 1.
    """
    del noise_variance

    def apply(
        state: ModelState, updates: Iterable[WeightedUpdate], version: int
    ) -> ModelState:
        buffer = WeightedSum(state.theta.size)
        shares: Counter[int] = Counter()
        for update in buffer.drain(updates):
            shares[update.base] += update.weight_q15 * update.pledge
        mean = buffer.mean()
        for base in sorted(shares):
            share_q16 = ratio_half_even(Q16 * shares[base], Q15 * buffer.examples)
            mean -= multiply_q16(base_theta(state, base) - state.theta, share_q16)
        memory = remembered(state, version, policy.staleness_max)
        return momentum_step(policy, state, mean, memory)

    return Aggregator(initial_state, apply)
