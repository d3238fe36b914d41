import numpy as np
import pytest

from starling.coordinator.aggregation.fedasync import fedasync
from starling.coordinator.aggregation.strategy import ModelState, WeightedUpdate
from starling.protocol.learning.task import Q15, Q16, Q24, AggregationPolicy, Strategy
from starling.protocol.learning.vector_codecs import Grid

WEIGHTS = (Q15, Q15 // 2, Q15 // 4)


def policy(alpha_q16: int) -> AggregationPolicy:
    return AggregationPolicy(Strategy.FEDASYNC, 1, alpha_q16, 0, 0, WEIGHTS, 1, 1, 1)


def ended(base: int, begun: Grid, end: float, staleness: int) -> WeightedUpdate:
    """An update of three examples."""
    return WeightedUpdate(3 * (begun - round(end * Q24)), WEIGHTS[staleness], 3, base)


def version_two() -> tuple[Grid, ModelState]:
    """Version 1's theta, 4, and version 2, at 8."""
    whole = fedasync(policy(Q16))
    state = whole.init(np.array([0]))
    first = whole.apply(state, [ended(0, state.theta, 4.0, 0)], 1)
    second = whole.apply(first, [ended(1, first.theta, 8.0, 0)], 2)
    assert (first.theta.tolist(), second.theta.tolist()) == ([4 * Q24], [8 * Q24])
    return first.theta, second


def test_fedasync_late_board_draws_towards_where_it_ended() -> None:
    begun, state = version_two()

    # 8 + 1/2 * 1/2 * (2 - 8), wherever the board began.
    after = fedasync(policy(Q16 // 2)).apply(state, [ended(1, begun, 2.0, 1)], 3)

    assert after.theta.tolist() == [round(6.5 * Q24)]


def test_fedasync_buffer_mixes_by_examples_and_weights() -> None:
    begun, state = version_two()
    fresh = ended(2, state.theta, 10.0, 0)

    # From 8 half of the way of the mean: 2 up, and half of 6 down.
    after = fedasync(policy(Q16)).apply(state, [fresh, ended(1, begun, 2.0, 1)], 3)

    assert after.theta.tolist() == [round(7.5 * Q24)]


@pytest.mark.parametrize("tau", range(3))
def test_fedasync_same_end_from_any_base_is_never_overshot(tau: int) -> None:
    rule = fedasync(policy(Q16))
    state = rule.init(np.array([Q24]))
    thetas = [state.theta]

    for version in range(1, 60):
        base = max(0, version - 1 - tau)
        late = ended(base, thetas[base], -1.0, version - 1 - base)
        state = rule.apply(state, [late], version)
        thetas.append(state.theta)

    path = [int(theta[0]) for theta in thetas]
    assert path == sorted(path, reverse=True)
    assert path[-1] == pytest.approx(-Q24, abs=2)
