from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.aggregation.projection import projected
from starling.coordinator.aggregation.strategy import ModelState, WeightedUpdate
from starling.protocol.learning.task import (
    Q15,
    Q16,
    Q24,
    AggregationPolicy,
    Strategy,
)
from starling.protocol.learning.vector_codecs import Grid

SMALL = st.lists(st.integers(-(1 << 30), 1 << 30), min_size=3, max_size=3)


def policy(rate: float = 1.0) -> AggregationPolicy:
    return AggregationPolicy(
        Strategy.PROJECTED, 1, round(rate * Q16), 0, 0, (Q15,) * 21, 1, 1, 1
    )


def grid(*values: float) -> Grid:
    return np.array([round(value * Q24) for value in values], np.int64)


def moved(way: Grid) -> ModelState:
    """Version 1, which went `way` down from version 0 at the origin."""
    rule = projected(policy())
    return rule.apply(rule.init(0 * way), [WeightedUpdate(way, Q15, 1)], 1)


@pytest.mark.parametrize(
    ("update", "left"),
    [
        ((2.0, 0.0), (0.0, 0.0)),
        ((1.0, 0.0), (0.0, 0.0)),
        ((6.0, 0.0), (4.0, 0.0)),
        ((0.0, 3.0), (0.0, 3.0)),
        ((1.0, 3.0), (0.0, 3.0)),
        ((-1.0, 3.0), (-1.0, 3.0)),
    ],
    ids=["the same", "less", "more", "across", "half of it along", "back"],
)
def test_projected_takes_off_what_the_model_moved_already(
    update: tuple[float, float], left: tuple[float, float]
) -> None:
    state = moved(grid(2.0, 0.0))
    late = WeightedUpdate(5 * grid(*update), Q15, 5, 0)

    after = projected(policy()).apply(state, [late], 2)

    assert (state.theta - after.theta).tolist() == grid(*left).tolist()


def test_projected_fresh_update_is_fedbuff() -> None:
    state = moved(grid(2.0, 0.0))

    after = projected(policy(0.5)).apply(
        state, [WeightedUpdate(grid(2.0, 4.0), Q15, 1, 1)], 2
    )

    assert (state.theta - after.theta).tolist() == grid(1.0, 2.0).tolist()


def test_projected_only_late_updates_of_a_buffer_lose() -> None:
    state = moved(grid(2.0, 0.0))
    fresh = WeightedUpdate(3 * grid(2.0, 0.0), Q15, 3, 1)
    late = WeightedUpdate(grid(2.0, 4.0), Q15, 1, 0)

    after = projected(policy()).apply(state, [fresh, late], 2)

    assert (state.theta - after.theta).tolist() == grid(1.5, 1.0).tolist()


@given(way=SMALL, late=SMALL, rate=st.sampled_from([0.25, 1.0, 20.0]))
def test_projected_equals_the_formula_in_fractions(
    way: list[int], late: list[int], rate: float
) -> None:
    state = moved(np.array(way, np.int64))
    update = WeightedUpdate(np.array(late, np.int64), Q15, 1, 0)

    after = projected(policy(rate)).apply(state, [update], 2)

    square = sum(r * r for r in way)
    along = sum(d * r for d, r in zip(late, way, strict=True))
    share = Fraction(rate) * along / square if square else Fraction(0)
    part = Fraction(round(min(max(share, Fraction(0)), Fraction(1)) * Q16), Q16)
    step = (state.theta - after.theta).tolist()
    for went, d, r in zip(step, late, way, strict=True):
        assert abs(went - (Fraction(rate) * d - part * r)) <= 1 + rate


@pytest.mark.parametrize("tau", range(21))
def test_projected_whole_optimum_added_late_converges_without_weights(
    tau: int,
) -> None:
    rule = projected(policy())
    state = rule.init(grid(1.0, -1.0))
    thetas = [state.theta]

    far = []
    for version in range(1, 40 * (tau + 1)):
        base = max(0, version - 1 - tau)
        late = WeightedUpdate(thetas[base].copy(), Q15, 1, base)
        state = rule.apply(state, [late], version)
        thetas.append(state.theta)
        far.append(int(np.abs(state.theta).max()))

    assert max(far) <= Q24
    assert max(far[len(far) // 2 :]) < Q24 // 20
