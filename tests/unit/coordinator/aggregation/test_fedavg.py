from dataclasses import replace

import numpy as np
import pytest

from starling.coordinator.aggregation.fedavg import fedavg
from starling.coordinator.aggregation.strategy import WeightedUpdate
from starling.protocol.learning.task import Q15, Q16, Q24, AggregationPolicy, Strategy

POLICY = AggregationPolicy(Strategy.FEDAVG, 2, Q16, 0, 0, (Q15,), 2, 1, 1)
START = np.array([round(0.5 * Q24), round(-0.5 * Q24)])


def trained(model: list[float], examples: int) -> WeightedUpdate:
    """What a board sends that began at `START` and ended at a model."""
    ended = np.array([round(value * Q24) for value in model])
    return WeightedUpdate(examples * (START - ended), Q15, examples)


def test_fedavg_worked_example_of_the_seed_paper() -> None:
    updates = [trained([0.1, 0.2], 1000), trained([0.3, 0.4], 2000)]
    aggregator = fedavg(POLICY)

    after = aggregator.apply(aggregator.init(START), updates, 1)

    assert (after.theta / Q24).tolist() == pytest.approx([0.7 / 3, 1.0 / 3], abs=2**-24)
    assert [f"{value / Q24:.3f}" for value in after.theta] == ["0.233", "0.333"]


def test_fedavg_where_it_began_does_not_matter() -> None:
    updates = [trained([1.0, 1.0], 7), trained([1.0, 1.0], 1)]
    aggregator = fedavg(POLICY)

    after = aggregator.apply(aggregator.init(START), updates, 1)

    assert after.theta.tolist() == [Q24, Q24]


def test_fedavg_gradients_are_stepped_against_with_the_rate() -> None:
    aggregator = fedavg(replace(POLICY, learning_rate_q16=Q16 // 4))
    gradients = [
        WeightedUpdate(np.array([6 * Q24, 0]), Q15, 2),
        WeightedUpdate(np.array([2 * Q24, 8 * Q24]), Q15, 2),
    ]

    after = aggregator.apply(aggregator.init(0 * START), gradients, 1)

    assert after.theta.tolist() == [-Q24 // 2, -Q24 // 2]
    assert not after.momentum.any()
