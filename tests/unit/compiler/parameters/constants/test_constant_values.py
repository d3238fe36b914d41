"""Formulas are known by their values; what was drawn or trained is none of them."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.compiler.parameters import constant_values

Array = NDArray[np.float32]
Predicate = Callable[[Array], bool]
PLACES = np.arange(32)
RATES = 10_000.0 ** (-np.arange(0, 16, 2) / 16)
ANGLES = np.outer(PLACES, RATES)
GAUSS = np.exp(-(np.linspace(-2, 2, 9) ** 2))
LAPLACIAN = np.diag([2.0, 3.0, 2.0, 1.0]) - np.array(
    [[0, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 0]]
)
SOBEL = [[[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]]]
HAAR = np.array([[[[1, 1], [1, 1]]], [[[1, -1], [1, -1]]], [[[1, 1], [-1, -1]]]]) / 2
PARITY = np.where(np.add.outer(np.arange(4), np.arange(8)) % 3 == 0, 1.0, -1.0)
TURN = np.linalg.qr(np.random.default_rng(3).standard_normal((5, 5)))[0]

FORMULAS: dict[str, tuple[Predicate, object]] = {
    "codes of positions": (constant_values.waves, np.sin(ANGLES)),
    "decays": (constant_values.waves, 0.9 ** np.outer(PLACES, [1, 2, 3])),
    "straight lines": (constant_values.ramps, np.outer(PLACES, [1.0, -2.0])),
    "a trend": (constant_values.polynomials, np.vander(PLACES / 32, 3)),
    "a Hamming window": (constant_values.window, np.hamming(16)),
    "slopes by distance": (
        constant_values.distances,
        -np.abs(np.subtract.outer(np.arange(6), np.arange(6))) / 4,
    ),
    "a Laplacian": (constant_values.differences, LAPLACIAN),
    "Sobel's filter": (constant_values.edges, SOBEL),
    "Haar's wavelets": (constant_values.wavelets, HAAR),
    "Gauss' filter": (constant_values.symmetric_filters, GAUSS.reshape(1, 1, 9)),
    "signs": (constant_values.few_values, PARITY),
    "an average": (constant_values.averaging, np.full((1, 1, 3, 3), 1 / 9)),
    "components of a PCA": (constant_values.orthogonal, TURN[:3]),
    "anchors": (constant_values.whole_numbers, [[8, 16], [32, 64]]),
    "a mask that is added": (constant_values.two_sided, [[0, -1e4], [0, 0]]),
    "who belongs to whom": (constant_values.chooses, np.eye(4)[[0, 2, 1, 1]]),
    "a fresh convolution": (constant_values.dirac, np.eye(9)[4].reshape(1, 1, 3, 3)),
}
SHAPES = ((16,), (8, 8), (12, 5), (4, 1, 3, 3), (6, 4, 5))


def values(given: object) -> Array:
    return np.asarray(given, np.float32)


@pytest.mark.parametrize("name", FORMULAS)
def test_formula_is_known(name: str) -> None:
    holds, formula = FORMULAS[name]

    assert holds(values(formula))


@pytest.mark.parametrize("name", FORMULAS)
def test_drawn_values_are_no_formula(name: str) -> None:
    holds, _ = FORMULAS[name]
    rng = np.random.default_rng(0)

    assert not any(
        holds(rng.standard_normal(shape).astype(np.float32))
        for shape in SHAPES
        for _ in range(20)
    )


@pytest.mark.parametrize("name", FORMULAS)
def test_formula_with_two_values_moved_is_none(name: str) -> None:
    holds, formula = FORMULAS[name]
    moved = values(formula).copy()
    moved.flat[moved.size // 3] += 0.37
    moved.flat[-1] -= 0.21

    assert not holds(moved)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "holds", [constant_values.few_values, constant_values.orthogonal]
)
def test_values_that_are_not_finite_are_no_table(holds: Predicate, bad: float) -> None:
    signs, turn = PARITY.copy(), TURN.copy()
    signs[1, 2] = turn[1, 2] = bad

    assert not holds(values(signs))
    assert not holds(values(turn))


def test_cosines_and_sines_of_one_table_of_angles_belong_together() -> None:
    rng = np.random.default_rng(1)
    tensors = {
        "cos": values(np.cos(ANGLES)),
        "sin": values(np.sin(ANGLES)),
        "drawn": values(rng.uniform(-1, 1, ANGLES.shape)),
        "gain": np.ones(8, np.float32),
        "bias": np.zeros(8, np.float32),
    }

    assert constant_values.rotations(tensors) == {"cos", "sin"}


def test_fresh_gains_and_identities_are_no_tables() -> None:
    fresh = np.zeros((6, 6, 3, 3), np.float32)
    fresh[range(6), range(6), 1, 1] = 1.0

    assert constant_values.dirac(fresh)
    assert not constant_values.few_values(fresh)
    assert not constant_values.orthogonal(fresh)
    assert not constant_values.symmetric_filters(fresh)
