"""What stands before a strategy: the same for any order, for any pledges, and exact."""

from itertools import permutations

import numpy as np
import pytest

from starling.coordinator.aggregation.fedbuff import fedbuff
from starling.coordinator.aggregation.robust.norm_history import HISTORY_WORDS
from starling.coordinator.aggregation.robust.robust_filter import (
    RULES,
    filtered,
    in_one_order,
    memory_words,
    robust,
)
from starling.coordinator.aggregation.strategy import (
    Aggregator,
    WeightedUpdate,
    pack_model,
    unpack_model,
)
from starling.protocol.errors import AggregationError
from starling.protocol.learning.task import (
    Q15,
    Q16,
    ROBUST_NAMES,
    AggregationPolicy,
    Robust,
    Strategy,
)

D = 20
FILTERS = [each for each in Robust if each != Robust.NONE]
PLAIN = AggregationPolicy(Strategy.FEDBUFF, 4, Q16, 0, 0, (Q15, Q15 // 2), 4, 1, 1)


def update(seed: int, pledge: int = 32, centre: float = 1.0) -> WeightedUpdate:
    rng = np.random.default_rng(seed)
    vector = np.rint(rng.normal(centre, 0.1, D) * pledge * (1 << 24)).astype(np.int64)
    return WeightedUpdate(vector, Q15, pledge, seed % 2, bytes([seed]) * 16)


def aggregator(number: int, *, noised: bool = False) -> Aggregator:
    return robust(fedbuff(PLAIN), number, noised=noised)


def test_robust_rules_are_all_that_a_task_may_name() -> None:
    assert set(RULES) == set(Robust) - {Robust.NONE, Robust.MEAN}
    assert ROBUST_NAMES["nnm-trimmed-mean"] == Robust.NNM_TRIMMED_MEAN


@pytest.mark.parametrize("noised", [False, True])
@pytest.mark.parametrize("number", FILTERS)
def test_robust_any_order_gives_the_same_bytes(number: int, noised: bool) -> None:
    made = aggregator(number, noised=noised)
    state = made.init(np.zeros(D, np.int64))
    updates = [update(1), update(2, 60), update(3, 16, -9.0), update(4), update(4)]
    found = {
        pack_model(made.apply(state, order, 1)).digests()
        for order in list(permutations(updates))[::7]
    }
    assert len(found) == 1


@pytest.mark.parametrize("number", FILTERS)
def test_robust_state_that_was_stored_goes_on_the_same(number: int) -> None:
    made = aggregator(number)
    state = made.init(np.zeros(D, np.int64))
    for version in range(1, 4):
        packed = pack_model(state)
        stored = unpack_model(packed.theta, packed.momentum, packed.average)
        buffer = [update(version), update(version + 9), update(version + 5, 60)]
        state = made.apply(state, buffer, version)
        again = made.apply(stored, buffer, version)
        assert pack_model(again) == pack_model(state)
    assert state.memory.size == memory_words(number, noised=False) == HISTORY_WORDS


def test_robust_none_is_the_strategy_itself() -> None:
    inner = fedbuff(PLAIN)
    assert robust(inner, Robust.NONE, noised=False) is inner
    assert memory_words(Robust.NONE, noised=False) == 0
    assert memory_words(Robust.MEDIAN, noised=True) == 0


@pytest.mark.parametrize("number", FILTERS)
def test_robust_without_an_update_says_so(number: int) -> None:
    made = aggregator(number)
    with pytest.raises(AggregationError, match="no update"):
        made.apply(made.init(np.zeros(D, np.int64)), [], 1)


@pytest.mark.parametrize("number", sorted(RULES))
def test_filtered_keeps_who_sent_it_and_what_it_weighs(number: int) -> None:
    buffer = in_one_order([update(1), update(2, 60), update(3, 16), update(4)])
    made = filtered(buffer, number)
    assert [(each.pledge, each.base, each.board, each.weight_q15) for each in made] == [
        (each.pledge, each.base, each.board, each.weight_q15) for each in buffer
    ]
    means = np.stack([each.vector / each.pledge for each in made])
    assert np.ptp(means, axis=0).max() <= 1.0


@pytest.mark.parametrize("number", sorted(RULES))
def test_filtered_two_liars_of_ten_hardly_move_it(number: int) -> None:
    honest = [update(seed) for seed in range(8)]
    liars = [update(20, centre=-30.0), update(21, centre=-30.0)]
    made = filtered(in_one_order([*honest, *liars]), number)
    mean = made[0].vector / made[0].pledge / (1 << 24)
    assert mean == pytest.approx(1.0, abs=0.6)


def test_filtered_one_update_is_left_alone() -> None:
    alone = update(1)
    assert filtered([alone], Robust.KRUM)[0] is alone


def test_filtered_small_pledge_counts_by_its_mean() -> None:
    buffer = in_one_order([update(1, 16), update(2, 16), update(3, 1 << 12)])
    made = filtered(buffer, Robust.MEDIAN)
    wanted = np.median([each.vector / each.pledge for each in buffer], axis=0)
    assert made[0].vector / made[0].pledge == pytest.approx(wanted, abs=1.0)


def test_robust_mean_shortens_what_is_longer_than_the_past() -> None:
    made = aggregator(Robust.MEAN)
    state = made.init(np.zeros(D, np.int64))
    state = made.apply(state, [update(seed) for seed in range(4)], 1)
    long = update(5, centre=100.0)
    step = made.apply(state, [long], 2).theta - state.theta
    length = float(np.linalg.norm(step)) / (1 << 24)
    assert length == pytest.approx(2 * np.sqrt(D), rel=0.05)


def test_robust_noised_mean_changes_nothing() -> None:
    made, inner = aggregator(Robust.MEAN, noised=True), fedbuff(PLAIN)
    state, buffer = inner.init(np.zeros(D, np.int64)), [update(1), update(2, 60)]
    assert pack_model(made.apply(state, buffer, 1)) == pack_model(
        inner.apply(state, buffer, 1)
    )


def test_order_of_updates_is_the_same_on_machines_of_either_byte_order() -> None:
    vectors = ([1, 0], [256, 0], [-1, 3], [1 << 33, 0])
    orders = [
        [
            each.vector.tolist()
            for each in in_one_order(
                [WeightedUpdate(np.array(v, kind), 1, 1) for v in vectors]
            )
        ]
        for kind in ("<i8", ">i8")
    ]
    assert orders[0] == orders[1]
