"""The bound follows the median of past norms, and one board does not move it."""

import numpy as np
import pytest

from starling.coordinator.aggregation.robust import norm_history as history
from starling.protocol.learning.vector_codecs import SCALE_BITS

ONE = 1 << 40


def test_norm_per_example_is_in_units_of_two_to_the_minus_forty() -> None:
    vector = np.array([3, 4]) << SCALE_BITS
    assert history.norm_per_example(vector, 1) == 5 * ONE
    assert history.norm_per_example(vector, 10) == ONE // 2


def test_radius_without_a_past_is_the_buffers_own() -> None:
    assert history.radius(history.empty_history(), [30, 10, 1000]) == 60


def test_radius_is_twice_the_median_of_the_past() -> None:
    known = history.remembered(history.empty_history(), [7, 5, 6])
    assert history.radius(known, [1000, 1000, 1000]) == 12


def test_remembered_keeps_the_newest() -> None:
    known = history.empty_history()
    for each in range(history.NORMS_KEPT):
        known = history.remembered(known, [each])
    known = history.remembered(known, [101, 100])
    assert known[0] == history.NORMS_KEPT
    assert known[1:].tolist() == [*range(2, history.NORMS_KEPT), 100, 101]


@pytest.mark.parametrize(("norm", "length"), [(50, 50), (100, 100), (200, 100)])
def test_shortened_leaves_what_is_short_enough(norm: int, length: int) -> None:
    vector = np.array([norm * 600, norm * 800])
    held = history.shortened(vector, norm, 100)
    assert np.linalg.norm(held) == pytest.approx(1000 * length, rel=1e-4)


def test_shortened_stays_inside_int64() -> None:
    vector = np.array([(1 << 38) - 2, -(1 << 38) + 2])
    half = (1 << 37) - 1
    assert history.shortened(vector, 1 << 50, 1 << 49).tolist() == [half, -half]


def test_one_long_norm_in_each_buffer_does_not_raise_the_bound() -> None:
    known = history.empty_history()
    for _ in range(30):
        norms = [10, 11, 12, 10**9]
        most = history.radius(known, norms)
        known = history.remembered(known, [min(each, most) for each in norms])
    assert history.radius(known, []) <= 24


def test_updates_of_nothing_do_not_hold_the_model_for_good() -> None:
    known = history.empty_history()
    for _ in range(history.NORMS_KEPT):
        assert history.radius(known, [0, 0, 0]) == 0
        known = history.remembered(known, [0, 0, 0])
    assert history.radius(known, [0, 0, 7]) == 14
    known = history.remembered(known, [0, 0, 7])

    assert history.radius(known, [0, 0, 0]) == 14
