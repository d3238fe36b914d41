"""What stands out in one direction is cut off, and nothing else."""

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.coordinator.aggregation.robust.spectral_clipping import (
    DIRECTIONS,
    REACH,
    spectral_clipping,
)
from starling.protocol.learning.vector_codecs import Grid

Real = NDArray[np.float64]
UNIT = 2.0**24
COUNT, D = 10, 400


def grid(rows: Real) -> Grid:
    return np.rint(rows * UNIT).astype(np.int64)


def noisy(seed: int, attackers: int, strength: float = 40.0) -> tuple[Real, Real]:
    """Rows of noise around a common vector, and that vector; some push against it."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=D)
    common *= 10 / np.linalg.norm(common)
    rows = common + rng.normal(0.0, 1.0, (COUNT, D))
    rows[:attackers] = -strength * common / 10
    return rows, common


def slow(rows: Real, weights: Real) -> Real:
    """The same by singular vectors, in floating point."""
    mean = weights @ rows / weights.sum()
    left = rows - rows.mean(axis=0)
    moved = np.zeros(rows.shape[1])
    for _ in range(DIRECTIONS):
        _, _, right = np.linalg.svd(left, full_matrices=False)
        along = left @ right[0]
        middle = np.sort(along)[len(along) // 2]
        spread = np.sort(np.abs(along - middle))[len(along) // 2]
        held = np.clip(along, middle - REACH * spread, middle + REACH * spread)
        moved += weights @ (held - along) / weights.sum() * right[0]
        left = left - np.outer(along, right[0])
    return np.asarray(mean + moved)


@pytest.mark.parametrize("attackers", [1, 2, 3])
def test_spectral_clipping_equals_its_slow_twin(attackers: int) -> None:
    rows, _ = noisy(3, attackers)
    weights = [1024, 512, 700, 1024, 30, 1024, 900, 1024, 64, 1024]
    found = spectral_clipping(grid(rows), weights) / UNIT
    # The power method ends near the second direction, where noise has no main one.
    one = spectral_clipping(grid(rows), weights, directions=1) / UNIT
    wanted = slow(rows, np.array(weights, float))
    assert np.linalg.norm(found - wanted) < 0.5
    assert np.linalg.norm(one - wanted) < 2.0


@pytest.mark.parametrize("attackers", [1, 2, 3, 4])
def test_spectral_clipping_takes_colluders_most_of_their_effect(attackers: int) -> None:
    rows, common = noisy(5, attackers)
    towards = common / 10
    harmed = 10 - rows.mean(axis=0) @ towards
    found = spectral_clipping(grid(rows), [1] * COUNT) / UNIT
    assert 10 - found @ towards < 0.35 * harmed


def test_spectral_clipping_without_attackers_is_nearly_the_mean() -> None:
    rows, common = noisy(7, 0)
    found = spectral_clipping(grid(rows), [1] * COUNT) / UNIT
    error = np.linalg.norm(found - common)
    assert error < 1.1 * np.linalg.norm(rows.mean(axis=0) - common)


def test_spectral_clipping_of_equal_rows_is_that_row() -> None:
    row = grid(noisy(1, 0)[0])[0]
    assert (spectral_clipping(np.tile(row, (5, 1)), [3] * 5) == row).all()


@pytest.mark.parametrize("count", [2, 3, 40])
def test_spectral_clipping_stays_inside_int64_at_the_ends(count: int) -> None:
    most = (1 << 40) - 1
    signs = np.random.default_rng(count).choice([-1, 1], (count, 30))
    found = spectral_clipping(signs * most, [1024] * count)
    assert np.abs(found).max() <= 3 * most


def test_spectral_clipping_any_order_of_weights_follows_the_rows() -> None:
    rows, _ = noisy(9, 2)
    given, weights = grid(rows), list(range(1, COUNT + 1))
    again = spectral_clipping(given[::-1].copy(), weights[::-1])
    assert np.abs(spectral_clipping(given, weights) - again).max() < 1 << 12
