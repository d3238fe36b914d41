"""FedBuff with server momentum: a buffer's weighted sum over all its examples.

The sum is divided by all examples and not by their weights: a buffer of updates that
are all equally late then takes a shorter step, where a weighted mean would cancel the
weight and, from a staleness of two on, diverge (a step that is repeated `tau` times
before its effect is seen is stable only while its gain stays below
`2 sin(pi / (2 (2 tau + 1)))`).

Source: Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation",
AISTATS 2022, Algorithm 1 and section 3 (weights by staleness), with the sum divided by
the number of examples instead of K; Levin and May, "A note on difference-delay
equations", 1976 (the bound on the gain).
"""

from collections.abc import Iterable

from starling.coordinator.aggregation.server_step import (
    initial_state,
    momentum_step,
    weighted_mean,
)
from starling.coordinator.aggregation.strategy import (
    Aggregator,
    ModelState,
    WeightedUpdate,
)
from starling.protocol.learning.task import AggregationPolicy


def fedbuff(policy: AggregationPolicy, noise_variance: int = 0) -> Aggregator:
    """FedBuff with a task's learning rate, momentum and average.

    Source: Nguyen et al., AISTATS 2022, Algorithm 1.
    """
    del noise_variance

    def apply(
        state: ModelState, updates: Iterable[WeightedUpdate], version: int
    ) -> ModelState:
        del version
        mean = weighted_mean(state.theta.size, updates)
        return momentum_step(policy, state, mean)

    return Aggregator(initial_state, apply)
