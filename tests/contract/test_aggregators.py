"""What every aggregation strategy promises, over the whole registry."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.aggregation.strategy import WeightedUpdate, pack_model
from starling.coordinator.aggregation.strategy_registry import AGGREGATORS
from starling.protocol.learning.task import Q15, AggregationPolicy, Strategy

DIMENSION = 3
COORDINATE = st.integers(-(2**38) + 1, 2**38 - 1)
UPDATE = st.builds(
    lambda values, weight, pledge: WeightedUpdate(
        np.array(values, np.int64), weight, pledge
    ),
    st.lists(COORDINATE, min_size=DIMENSION, max_size=DIMENSION),
    st.integers(1, Q15),
    st.integers(1, 1 << 20),
)


def policy(strategy: int) -> AggregationPolicy:
    return AggregationPolicy(strategy, 4, 40000, 30000, 20000, (Q15,), 4, 1, 1)


@pytest.mark.parametrize("strategy", sorted(AGGREGATORS))
@given(updates=st.lists(UPDATE, min_size=1, max_size=4))
def test_aggregator_any_order_gives_the_same_bytes(
    strategy: int, updates: list[WeightedUpdate]
) -> None:
    aggregator = AGGREGATORS[strategy](policy(strategy))
    before = aggregator.init(np.arange(DIMENSION) << 20)

    results = {
        pack_model(aggregator.apply(before, order)).digests()
        for order in permutations(updates)
    }

    assert len(results) == 1


@pytest.mark.parametrize("strategy", sorted(AGGREGATORS))
def test_aggregator_apply_leaves_the_state_before_alone(strategy: int) -> None:
    aggregator = AGGREGATORS[strategy](policy(strategy))
    before = aggregator.init(np.arange(DIMENSION) << 20)
    digests = pack_model(before).digests()

    aggregator.apply(before, [WeightedUpdate(np.ones(DIMENSION, np.int64), Q15, 1)])

    assert pack_model(before).digests() == digests


def test_registry_every_strategy_of_the_wire_has_an_aggregator() -> None:
    assert sorted(AGGREGATORS) == sorted(Strategy)
