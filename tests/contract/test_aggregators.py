"""What every aggregation strategy promises, over the whole registry."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.aggregation.strategy import (
    Aggregator,
    ModelState,
    WeightedUpdate,
    pack_model,
    unpack_model,
)
from starling.coordinator.aggregation.strategy_registry import (
    AGGREGATORS,
    memory_words_max,
)
from starling.protocol.errors import AggregationError
from starling.protocol.learning.task import Q15, Q24, AggregationPolicy, Strategy

DIMENSION = 3
STALENESS_MAX = 3
COORDINATE = st.integers(-(2**38) + 1, 2**38 - 1)
UPDATE = st.builds(
    lambda values, weight, pledge, base, board: WeightedUpdate(
        np.array(values, np.int64), weight, pledge, base, bytes([board]) * 16
    ),
    st.lists(COORDINATE, min_size=DIMENSION, max_size=DIMENSION),
    st.integers(1, Q15),
    st.integers(1, 1 << 20),
    st.integers(1, 1 + STALENESS_MAX),
    st.integers(0, 5),
)
ONE = WeightedUpdate(np.array([1 << 20, -5, 0], np.int64), Q15, 1)


def policy(strategy: int) -> AggregationPolicy:
    return AggregationPolicy(
        strategy, 4, 40000, 30000, 20000, (Q15,) * (1 + STALENESS_MAX), 4, 1, 1
    )


def after_some(strategy: int) -> tuple[Aggregator, ModelState]:
    """Version 4, made from one update each."""
    aggregator = AGGREGATORS[strategy](policy(strategy), 1 << 20)
    state = aggregator.init(np.arange(DIMENSION) << 20)
    for version in range(1, 5):
        one = replace(ONE, base=version - 1, board=bytes([version % 3]) * 16)
        state = aggregator.apply(state, [one], version)
    return aggregator, state


@pytest.mark.parametrize("strategy", sorted(AGGREGATORS))
@given(updates=st.lists(UPDATE, min_size=1, max_size=4))
def test_aggregator_any_order_gives_the_same_bytes(
    strategy: int, updates: list[WeightedUpdate]
) -> None:
    aggregator, before = after_some(strategy)

    results = {
        pack_model(aggregator.apply(before, order, 5)).digests()
        for order in permutations(updates)
    }

    assert len(results) == 1


@pytest.mark.parametrize("strategy", sorted(AGGREGATORS))
@given(updates=st.lists(UPDATE, min_size=1, max_size=4))
def test_aggregator_state_that_was_stored_goes_on_the_same(
    strategy: int, updates: list[WeightedUpdate]
) -> None:
    aggregator, before = after_some(strategy)
    packed = pack_model(before)

    stored = unpack_model(packed.theta, packed.momentum, packed.average)
    results = {
        pack_model(aggregator.apply(state, updates, 5)).digests()
        for state in (before, stored)
    }

    assert len(results) == 1


@pytest.mark.parametrize("strategy", sorted(AGGREGATORS))
def test_aggregator_apply_leaves_the_state_before_alone(strategy: int) -> None:
    aggregator, before = after_some(strategy)
    digests = pack_model(before).digests()

    aggregator.apply(before, [replace(ONE, base=2)], 5)

    assert pack_model(before).digests() == digests


@pytest.mark.parametrize("strategy", sorted(AGGREGATORS))
def test_aggregator_memory_keeps_within_what_a_task_is_checked_for(
    strategy: int,
) -> None:
    aggregator, state = after_some(strategy)
    for version in range(5, 5 + 2 * STALENESS_MAX):
        state = aggregator.apply(state, [replace(ONE, base=version - 1)], version)

        assert state.memory.size <= memory_words_max(policy(strategy), DIMENSION)


@pytest.mark.parametrize("strategy", sorted(AGGREGATORS))
def test_aggregator_no_update_is_an_aggregation_error(strategy: int) -> None:
    aggregator, before = after_some(strategy)

    with pytest.raises(AggregationError):
        aggregator.apply(before, [], 5)


@pytest.mark.parametrize("strategy", sorted(AGGREGATORS))
def test_aggregator_a_gradient_leads_down(strategy: int) -> None:
    aggregator = AGGREGATORS[strategy](policy(strategy), 0)
    before = aggregator.init(np.zeros(DIMENSION, np.int64))
    up = WeightedUpdate(np.array([Q24, -Q24, 0], np.int64), Q15, 1)

    after = aggregator.apply(before, [up], 1).theta

    assert after[0] < 0 < after[1]
    assert after[2] == 0


def test_registry_every_strategy_of_the_wire_has_an_aggregator() -> None:
    assert sorted(AGGREGATORS) == sorted(Strategy)
