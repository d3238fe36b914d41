from fractions import Fraction

import numpy as np
import pytest

from starling.coordinator.aggregation import ca2fl as module
from starling.coordinator.aggregation.ca2fl import ca2fl
from starling.coordinator.aggregation.strategy import ModelState, WeightedUpdate
from starling.protocol.learning.task import Q15, Q16, Q24, AggregationPolicy, Strategy

POLICY = AggregationPolicy(Strategy.CA2FL, 2, Q16, 0, 0, (Q15,) * 9, 2, 1, 1)
RULE = ca2fl(POLICY)


def sent(board: int, value: float, base: int, examples: int = 1) -> WeightedUpdate:
    vector = np.array([round(examples * value * Q24)], np.int64)
    return WeightedUpdate(vector, Q15, examples, base, bytes([board]) * 16)


def step(state: ModelState, updates: list[WeightedUpdate], version: int) -> float:
    """How far a version goes down."""
    after = RULE.apply(state, updates, version)
    return float(state.theta[0] - after.theta[0]) / Q24


def known(values: dict[int, float]) -> ModelState:
    """Version 1, in which each board sent a value."""
    updates = [sent(board, value, 0) for board, value in values.items()]
    return RULE.apply(RULE.init(np.array([0])), updates, 1)


def test_ca2fl_first_updates_are_taken_as_usual() -> None:
    start = RULE.init(np.array([0]))

    assert step(start, [sent(1, 2.0, 0), sent(2, 4.0, 0, 3)], 1) == 3.5
    assert step(known({1: 8.0}), [sent(2, 4.0, 1)], 2) == 4.0


def test_ca2fl_buffer_is_the_paper_s_formula() -> None:
    # h = (1 + 2 + 9) / 3 = 4, plus the mean of 3 - 1 and 7 - 9.
    state = known({1: 1.0, 2: 2.0, 3: 9.0})

    assert step(state, [sent(1, 3.0, 1), sent(3, 7.0, 1)], 2) == 4.0


def test_ca2fl_same_boards_again_and_again_do_not_draw_the_model_to_them() -> None:
    state = known({1: 1.0, 2: -1.0, 3: 0.0})

    for version in range(2, 8):
        after = RULE.apply(state, [sent(1, 1.0, version - 1)], version)
        assert after.theta.tolist() == state.theta.tolist()
        state = after


def test_ca2fl_of_two_updates_of_a_board_the_newer_is_remembered() -> None:
    state = known({1: 0.0})
    both = [sent(1, 5.0, 2), sent(1, 3.0, 1)]

    after = RULE.apply(RULE.apply(state, [sent(2, 0.0, 1)], 2), both, 3)

    # h is (5 + 0) / 2, and board 1 sends what it always sends.
    assert step(after, [sent(1, 5.0, 3)], 4) == 2.5


def test_ca2fl_full_cache_forgets_who_was_not_heard_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "boards_cached", lambda _: 2)
    state = known({1: 3.0, 2: 6.0})

    state = RULE.apply(state, [sent(1, 3.0, 1)], 2)
    state = RULE.apply(state, [sent(7, 9.0, 2)], 3)

    rows = state.memory.reshape(2, -1)
    assert [row[:2].astype("<i8").tobytes()[0] for row in rows] == [1, 7]
    assert [Fraction(int(row[3]), Q24) for row in rows] == [3, 9]
