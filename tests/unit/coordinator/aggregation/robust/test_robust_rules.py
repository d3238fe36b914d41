"""Every rule equals a small, slow twin in floating point, and bears its liars."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.coordinator.aggregation.robust import robust_rules as rules
from starling.protocol.learning.vector_codecs import Grid

Real = NDArray[np.float64]
UNIT = 2.0**24
ROUNDING = 2.0**-18
"""Of distances, which are taken on 20 bits of the largest magnitude."""


def rows(count: int, dimension: int = 40, seed: int = 1) -> Grid:
    rng = np.random.default_rng(seed)
    return np.rint(rng.normal(1.0, 1.0, (count, dimension)) * UNIT).astype(np.int64)


def distances(x: Real) -> Real:
    return np.asarray(np.linalg.norm(x[:, None] - x[None], axis=2))


def krum_scores(x: Real, f: int) -> Real:
    squared = np.sort(distances(x) ** 2, axis=1)
    return np.asarray(squared[:, 1 : 1 + max(1, len(x) - f - 2)].sum(axis=1))


def slow_median(x: Real, f: int) -> Real:
    del f
    return np.asarray(np.median(x, axis=0))


def slow_trimmed_mean(x: Real, f: int) -> Real:
    return np.asarray(np.sort(x, axis=0)[f : len(x) - f].mean(axis=0))


def slow_krum(x: Real, f: int) -> Real:
    return np.asarray(x[krum_scores(x, f).argmin()])


def slow_multi_krum(x: Real, f: int) -> Real:
    return np.asarray(x[np.argsort(krum_scores(x, f))[: len(x) - f]].mean(axis=0))


def slow_bulyan(x: Real, f: int) -> Real:
    f = max(0, min(f, (len(x) - 3) // 4))
    left, chosen = list(range(len(x))), list[int]()
    while len(chosen) < len(x) - 2 * f:
        best = left[int(krum_scores(x[left], f).argmin())]
        chosen.append(best)
        left.remove(best)
    picked = x[chosen]
    near = np.argsort(np.abs(picked - np.median(picked, axis=0)), axis=0)
    kept = near[: len(chosen) - 2 * f]
    return np.asarray(np.take_along_axis(picked, kept, axis=0).mean(axis=0))


def slow_geometric_median(x: Real, f: int) -> Real:
    del f
    point = x.mean(axis=0)
    for _ in range(rules.WEISZFELD_STEPS):
        weights = 1 / np.linalg.norm(x - point, axis=1)
        point = weights @ x / weights.sum()
    return np.asarray(point)


def slow_centred_clipping(x: Real, f: int) -> Real:
    del f
    point = np.median(x, axis=0)
    for _ in range(rules.CLIPPING_STEPS):
        apart = np.linalg.norm(x - point, axis=1)
        most = np.sort(apart)[len(x) // 2]
        factors = np.minimum(1.0, most / apart)
        point = point + ((x - point) * factors[:, None]).mean(axis=0)
    return np.asarray(point)


def slow_ctma(x: Real, f: int) -> Real:
    apart = np.linalg.norm(x - np.median(x, axis=0), axis=1)
    return np.asarray(x[np.argsort(apart)[: len(x) - f]].mean(axis=0))


def slow_mixing(x: Real, weights: list[int], f: int) -> Real:
    found = []
    for row in distances(x):
        near = np.argsort(row)[: len(x) - f]
        share = np.array(weights, float)[near]
        found.append(share @ x[near] / share.sum())
    return np.stack(found)


PAIRS: dict[str, tuple[Callable[[Grid, int], Grid], Callable[[Real, int], Real]]] = {
    "median": (lambda x, _f: rules.median(x), slow_median),
    "trimmed-mean": (rules.trimmed_mean, slow_trimmed_mean),
    "krum": (rules.krum, slow_krum),
    "multi-krum": (rules.multi_krum, slow_multi_krum),
    "bulyan": (rules.bulyan, slow_bulyan),
    "geometric-median": (
        lambda x, _f: rules.geometric_median(x),
        slow_geometric_median,
    ),
    "centred-clipping": (
        lambda x, _f: rules.centred_clipping(x),
        slow_centred_clipping,
    ),
    "ctma": (rules.centred_trimmed_mean, slow_ctma),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("count", "f"), [(4, 1), (7, 1), (10, 3), (11, 2), (15, 3)])
def test_rule_equals_its_slow_twin(name: str, count: int, f: int) -> None:
    exact, slow = PAIRS[name]
    given = rows(count, seed=count)
    wanted = slow(given / UNIT, f)
    assert exact(given, f) / UNIT == pytest.approx(wanted, abs=50 * ROUNDING)


@pytest.mark.parametrize(("count", "f"), [(4, 1), (10, 3), (15, 4)])
def test_neighbour_mixed_equals_its_slow_twin(count: int, f: int) -> None:
    given = rows(count, seed=count)
    weights = [1 + 37 * each for each in range(count)]
    mixed = rules.neighbour_mixed(given, weights, f) / UNIT
    assert mixed == pytest.approx(slow_mixing(given / UNIT, weights, f), abs=ROUNDING)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_rule_of_few_rows_stays_among_them(name: str, count: int) -> None:
    exact, _ = PAIRS[name]
    given = rows(count)
    found = exact(given, rules.tolerated(count))
    assert (found >= given.min(axis=0) - 1).all()
    assert (found <= given.max(axis=0) + 1).all()


@pytest.mark.parametrize("name", PAIRS)
def test_rule_of_equal_rows_is_that_row(name: str) -> None:
    exact, _ = PAIRS[name]
    row = rows(1)[0]
    assert (exact(np.tile(row, (9, 1)), 3) == row).all()


@pytest.mark.parametrize("name", PAIRS)
def test_rule_bears_far_liars(name: str) -> None:
    exact, _ = PAIRS[name]
    given = rows(11, seed=5)
    honest = given[2:].mean(axis=0) / UNIT
    given[:2] -= 1 << 32
    away = np.linalg.norm(exact(given, 3) / UNIT - honest)
    spread = np.linalg.norm(given[2:] / UNIT - honest, axis=1).max()
    assert away < 2 * spread


def test_mean_is_moved_by_one_liar_as_far_as_it_likes() -> None:
    given = rows(11, seed=5)
    given[0] = -(1 << 39)
    assert np.abs(rules.mean(given) / UNIT).min() > 1000


@pytest.mark.parametrize("name", PAIRS)
def test_rule_stays_inside_int64_at_the_ends_of_its_range(name: str) -> None:
    exact, _ = PAIRS[name]
    most = (1 << rules.ROW_BITS) - 1
    signs = np.random.default_rng(3).choice([-1, 1], (12, 30))
    found = exact(signs * most, 3)
    assert np.abs(found).max() <= most


def test_median_of_an_even_number_is_rounded_to_even() -> None:
    assert rules.median(np.array([[1], [2]])).tolist() == [2]
    assert rules.median(np.array([[2], [3]])).tolist() == [2]


def test_centred_clipping_goes_from_a_given_centre_by_a_given_radius() -> None:
    given = np.array([[0, 0], [600, 800]])
    moved = rules.centred_clipping(given, np.array([0, 0]), 100, steps=1)
    assert moved.tolist() == [30, 40]


@pytest.mark.parametrize(("count", "f"), [(1, 1), (4, 1), (5, 2), (10, 3), (12, 3)])
def test_tolerated_is_a_quarter_rounded_up(count: int, f: int) -> None:
    assert rules.tolerated(count) == f
