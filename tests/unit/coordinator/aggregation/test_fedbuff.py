import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from starling.coordinator.aggregation.fedbuff import fedbuff
from starling.coordinator.aggregation.server_step import MOMENTUM_MAX, PARAMETER_MAX
from starling.coordinator.aggregation.strategy import (
    ModelState,
    WeightedUpdate,
    pack_model,
    unpack_grid,
)
from starling.protocol.errors import AggregationError
from starling.protocol.learning.task import (
    Q15,
    Q16,
    Q24,
    AggregationPolicy,
    Strategy,
    staleness_table,
    version_digest,
)


def policy(
    learning_rate: float = 1.0, momentum: float = 0.0, average: float = 0.0
) -> AggregationPolicy:
    return AggregationPolicy(
        strategy=Strategy.FEDBUFF,
        buffer=2,
        learning_rate_q16=round(learning_rate * Q16),
        momentum_q16=round(momentum * Q16),
        average_q16=round(average * Q16),
        staleness_q15=(Q15,) * 21,
        leases=2,
        patience=1,
        norm_max=1,
    )


def update(values: list[float], weight: int = Q15, pledge: int = 1) -> WeightedUpdate:
    vector = np.array([round(value * Q24) for value in values], np.int64)
    return WeightedUpdate(vector, weight, pledge)


def start(values: list[float]) -> ModelState:
    return fedbuff(policy()).init(update(values).vector)


def test_fedbuff_divides_the_weighted_sum_by_all_examples() -> None:
    # (1 * 6 + 1/2 * 20) / (2 + 6) = 2 against the gradient.
    updates = [update([6.0], Q15, 2), update([20.0], Q15 // 2, 6)]

    after = fedbuff(policy()).apply(start([10.0]), updates, 1)

    assert after.theta.tolist() == [8 * Q24]


def test_fedbuff_equal_staleness_shortens_the_step() -> None:
    late = [update([8.0], Q15 // 4), update([8.0], Q15 // 4)]

    after = fedbuff(policy()).apply(start([10.0]), late, 1)

    assert after.theta.tolist() == [8 * Q24]


def thetas(bases: Callable[[int], int], versions: int) -> list[int]:
    """A parameter's way from 1 to every board's optimum at 0, in units of 2^-24.

    Each update goes all the way to the optimum from its base, whose number is that of
    the version that it comes to, by `bases`.
    """
    aggregator = fedbuff(policy())
    state = start([1.0])
    made = [state.theta]
    for version in range(1, versions + 1):
        base = bases(version)
        weight = staleness_table(1.0, 20)[version - 1 - base]
        late = WeightedUpdate(made[base].copy(), weight, 1, base)
        state = aggregator.apply(state, [late], version)
        made.append(state.theta)
    return [int(theta[0]) for theta in made]


@pytest.mark.parametrize("tau", range(21))
def test_fedbuff_whole_optimum_added_late_converges_at_any_delay(tau: int) -> None:
    way = thetas(lambda version: max(0, version - 1 - tau), 60 * (tau + 1))

    far = [abs(theta) for theta in way]
    assert max(far) <= Q24
    assert max(far[len(far) // 2 :]) < Q24 // 20


def beyond_the_optimum(tau: int, weight: int) -> int:
    """The farthest that a fleet in steady delay goes past the optimum at 0.

    Each version has a base of its own, from the first on: nothing begins as a herd.
    """
    aggregator = fedbuff(policy())
    state = start([1.0])
    made = [state.theta] * (tau + 1)
    for _ in range(20 * (tau + 1)):
        version = len(made)
        base = version - 1 - tau
        late = WeightedUpdate(made[base].copy(), weight, 1, base)
        state = aggregator.apply(state, [late], version)
        made.append(state.theta)
    return -min(int(theta[0]) for theta in made)


@pytest.mark.parametrize("tau", range(5, 21))
def test_fedbuff_long_delays_overshoot_less_than_by_the_staleness_alone(
    tau: int,
) -> None:
    beyond = beyond_the_optimum(tau, staleness_table(1.0, 20)[tau])

    assert beyond < 0.3 * Q24
    assert beyond < 0.7 * beyond_the_optimum(tau, round(Q15 / (1 + tau)))


@pytest.mark.parametrize("size", [2, 3, 5, 10, 20])
def test_fedbuff_herd_of_any_size_goes_no_farther_than_a_step_and_a_half(
    size: int,
) -> None:
    way = thetas(lambda version: (version - 1) // size * size, 8 * size)

    ends = way[size::size]
    assert ends[0] == -Q24 // 2
    # Each herd halves what is left, from the other side.
    assert [abs(end) for end in ends] == [Q24 >> number for number in range(1, 9)]


def test_fedbuff_two_versions_momentum_and_average_worked_by_hand() -> None:
    # m: 1, 1.5; theta: 0 - 0.5 = -0.5, then -1.25; average: -0.25, then -0.75.
    aggregator = fedbuff(policy(learning_rate=0.5, momentum=0.5, average=0.5))

    first = aggregator.apply(start([0.0]), [update([1.0])], 1)
    second = aggregator.apply(first, [replace(update([1.0]), base=1)], 2)

    assert first.average.tolist() == [-Q24 // 4]
    assert second.momentum.tolist() == [3 * Q24 // 2]
    assert second.theta.tolist() == [-5 * Q24 // 4]
    assert second.average.tolist() == [-3 * Q24 // 4]


def test_fedbuff_largest_inputs_saturate_and_never_wrap() -> None:
    extreme = WeightedUpdate(np.array([-PARAMETER_MAX, PARAMETER_MAX]), Q15, 1)
    aggregator = fedbuff(policy(learning_rate=256.0, momentum=1 - 1 / Q16))
    state = ModelState(
        np.array([PARAMETER_MAX, -PARAMETER_MAX]),
        np.array([-MOMENTUM_MAX, MOMENTUM_MAX]),
        np.array([PARAMETER_MAX, -PARAMETER_MAX]),
    )

    after = aggregator.apply(state, [extreme] * 1024, 1)

    assert after.theta.tolist() == [PARAMETER_MAX, -PARAMETER_MAX]
    assert after.momentum.tolist() == [-MOMENTUM_MAX, MOMENTUM_MAX]


def test_fedbuff_no_update_is_an_aggregation_error() -> None:
    with pytest.raises(AggregationError):
        fedbuff(policy()).apply(start([0.0]), [], 1)


def test_pack_model_any_state_reads_back_and_names_itself() -> None:
    state = start([0.5, -1.25])

    packed = pack_model(state)

    assert unpack_grid(packed.theta).tolist() == state.theta.tolist()
    assert np.frombuffer(packed.training, "<f4").tolist() == [0.5, -1.25]
    assert version_digest(packed.digests()) == version_digest(
        pack_model(start([0.5, -1.25])).digests()
    )
    assert math.isclose(float(np.frombuffer(packed.inference, "<f4")[1]), -1.25)
