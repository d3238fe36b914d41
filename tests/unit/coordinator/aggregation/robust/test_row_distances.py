"""Distances in integers: exact on what they are taken on, near the real ones."""

import numpy as np
import pytest

from starling.coordinator.aggregation.robust.row_distances import (
    DISTANCE_BITS,
    distances_to,
    nearest,
    rounded,
    rounding_shift,
    squared_distance,
    squared_distances,
)


def test_squared_distance_is_exact_for_many_large_differences() -> None:
    d, most = 3 << 18, 1 << DISTANCE_BITS
    first, second = np.full(d, most), np.full(d, -most)
    assert squared_distance(first, second) == d * 4 * most * most


def test_squared_distances_are_symmetric_and_zero_to_themselves() -> None:
    rows = np.array([[0, 0], [3, 4], [-3, -4]])
    assert squared_distances(rows).tolist() == [[0, 25, 25], [25, 0, 100], [25, 100, 0]]


@pytest.mark.parametrize(
    ("most", "shift"), [(0, 0), (1, 0), ((1 << 20) - 1, 0), (1 << 20, 1), (1 << 40, 21)]
)
def test_rounding_shift_leaves_twenty_bits(most: int, shift: int) -> None:
    assert rounding_shift(np.array([[0, -most]])) == shift


def test_rounded_is_to_nearest() -> None:
    assert rounded(np.array([5, 6, 7, -5, -7]), 2).tolist() == [1, 2, 2, -1, -2]
    assert rounded(np.array([5]), 0).tolist() == [5]


def test_distances_to_a_point_are_near_the_real_ones() -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(-(1 << 40), 1 << 40, (5, 100))
    centre = rng.integers(-(1 << 40), 1 << 40, 100)
    real = np.linalg.norm((rows - centre).astype(float), axis=1)
    assert distances_to(centre, rows) == pytest.approx(list(real), rel=1e-5)


def test_nearest_begins_with_itself_and_breaks_ties_by_number() -> None:
    squared = squared_distances(np.array([[0], [2], [-2], [9]]))
    assert nearest(squared, 0, 2) == [0, 1]
    assert nearest(squared, 3, 3) == [3, 1, 0]


def test_nearest_of_a_row_with_a_copy_is_the_row() -> None:
    assert nearest(squared_distances(np.array([[1], [1]])), 1, 1) == [1]
