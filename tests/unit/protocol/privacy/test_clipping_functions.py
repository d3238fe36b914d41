"""The clip's margin against the worst that float32 sums can do."""

import math
from fractions import Fraction

import numpy as np
import pytest

from starling.protocol.privacy.clipping_functions import (
    AUTOMATIC,
    GRAPH_DIMENSION_MAX,
    NORM,
    SUM_BLOCK,
    clip_margin,
    clip_scale,
    sum_depth,
    weights_lost,
)

WIDTHS = [1, 1 << 10, 1 << 20, 1 << 22, GRAPH_DIMENSION_MAX]


@pytest.mark.parametrize("dimension", WIDTHS)
def test_margin_covers_the_least_norm_that_may_be_computed(dimension: int) -> None:
    # Of norm 1 at least this much is seen, so that the scale is at most bound / seen.
    seen_squared = 1 - Fraction(sum_depth(dimension), 1 << 24)
    bound = 1 - Fraction(clip_margin(dimension))
    few_roundings = 1 + Fraction(8, 1 << 24)

    assert (bound * few_roundings) ** 2 <= seen_squared
    assert bound > Fraction(995, 1000)


def test_margin_covers_a_sum_that_stands_still() -> None:
    # One after the other: once the sum is large, each small square is rounded away.
    dimension = GRAPH_DIMENSION_MAX
    small = np.float32(2.0**-12.5)
    squares = np.full(dimension, small * small, np.float32)
    squares[:: 2 * SUM_BLOCK] = 1.0
    blocks = np.cumsum(squares.reshape(-1, 2 * SUM_BLOCK), axis=1, dtype=np.float32)
    sums = np.cumsum(blocks[:, -1], dtype=np.float32)
    computed = math.sqrt(float(sums[-1]))
    true = math.sqrt(float(squares.astype(np.float64).sum()))

    for kind in (NORM, AUTOMATIC):
        scale = clip_scale(computed, 0.5, dimension, kind)
        assert 0 < scale * true <= 0.5


@pytest.mark.parametrize("kind", [NORM, AUTOMATIC])
def test_nothing_comes_out_where_no_margin_is_enough(kind: str) -> None:
    assert clip_scale(3.0, 1.0, GRAPH_DIMENSION_MAX + 1, kind) == 0.0


@pytest.mark.parametrize(
    ("weights", "kind", "told"),
    [
        ((), NORM, ""),
        ((1.0, 1.0), AUTOMATIC, ""),
        ((5.0, 5.0), NORM, ""),
        ((0.125, 1.0), NORM, ""),
        ((1.0, 8.0), NORM, "the same ratio without loss is 0.125,1"),
        ((0.125, 1.0), AUTOMATIC, "do nothing under automatic clipping"),
    ],
)
def test_class_weights_that_clipping_takes_away_are_named(
    weights: tuple[float, ...], kind: str, told: str
) -> None:
    found = weights_lost(weights, kind)

    assert (told in found) if told else not found
