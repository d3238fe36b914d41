"""Values by which a tensor is known to be no weight."""

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from starling.compiler.parameters import constant_tensors

RNG = np.random.default_rng(0)
Values = NDArray[np.float32]


def _positions(length: int, width: int) -> Values:
    angles = np.arange(length)[:, None] / 1e4 ** (np.arange(0, width, 2) / width)
    pairs = np.stack([np.sin(angles), np.cos(angles)], axis=2)
    table: Values = pairs.reshape(length, width).astype(np.float32)
    return table


def _filters() -> Values:
    centres = np.arange(1, 6) * 6
    rows = 1 - np.abs(np.arange(36) - centres[:, None]) / 6
    bank: Values = np.maximum(rows, 0).astype(np.float32)
    return bank


def _cosines(size: int) -> Values:
    places = (np.arange(size) + 0.5)[None] * np.arange(size)[:, None]
    table: Values = np.cos(np.pi / size * places).astype(np.float32)
    return table


def _padded(table: Values) -> Values:
    rows: Values = table.copy()
    rows[0] = 0
    return rows


def _fourier(size: int) -> Values:
    angles = np.arange(size // 2 + 1)[:, None] * np.arange(size) * 2 * np.pi / size
    kernels: Values = (np.cos(angles) * np.hanning(size))[:, None].astype(np.float32)
    return kernels


def _imaginary(size: int) -> Values:
    """The sine's kernels in float32: half turns leave numbers near 0."""
    steps = np.arange(size // 2 + 1, dtype=np.float32)[:, None]
    angles = steps * np.arange(size, dtype=np.float32) * np.float32(2 * np.pi / size)
    kernels = -np.sin(angles) * np.hanning(size + 1)[:-1]
    found: Values = kernels[:, None].astype(np.float32)
    return found


def _by_distance(size: int) -> Values:
    far = np.abs(np.arange(size)[:, None] - np.arange(size)[None])
    slopes: Values = np.stack([-far / 2, -far / 4]).astype(np.float32)
    return slopes


def _laplacian() -> Values:
    links = (np.arange(25).reshape(5, 5) % 3 + 1.0) * (1 - np.eye(5))
    found: Values = (np.diag(links.sum(1)) - links).astype(np.float32)
    return found


def _haar() -> Values:
    signs = [[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]
    found: Values = np.array(signs, np.float32).reshape(4, 1, 2, 2)
    return found


def _gabor(size: int) -> Values:
    places = np.arange(size) - size // 2
    waves = [np.cos(0.3 * places), np.sin(0.3 * places), np.cos(0.7 * places)]
    bank = np.stack(waves) * np.exp(-(places**2) / size)
    return bank[:, None].astype(np.float32)


def _band_passes(size: int) -> Values:
    places = np.arange(size) - size // 2
    low, high = [
        np.stack([2 * edge * np.sinc(2 * edge * places) for edge in edges])
        for edges in ((0.02, 0.1, 0.2), (0.08, 0.19, 0.31))
    ]
    bank: Values = ((high - low) * np.hamming(size))[:, None].astype(np.float32)
    return bank


def _two_bands() -> Values:
    low = np.array([0.48296291, 0.8365163, 0.22414387, -0.12940952])
    pair: Values = np.stack([low, low[::-1] * [1, -1, 1, -1]]).astype(np.float32)
    return np.tile(pair[:, None], (3, 1, 1))


ADJACENCY: Values = (RNG.random((5, 5)) + 0.1).astype(np.float32)
AVERAGES: Values = ADJACENCY / ADJACENCY.sum(1, keepdims=True)
BLUR: Values = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / np.float32(16)
SOBEL: Values = np.outer([1, 2, 1], [-1, 0, 1]).astype(np.float32)
ONE_MASK = np.triu(np.ones((4, 4), np.float32), 1)

NO_WEIGHTS: dict[str, Values] = {
    "positions": _positions(7, 8),
    "positions with leading axes": _positions(6, 4)[None],
    "zeros and ones": ONE_MASK,
    "mel filters": _filters(),
    "adjacency, symmetric": ADJACENCY + ADJACENCY.T,
    "adjacency, rows that sum to one": AVERAGES,
    "blur of each channel": np.tile(BLUR, (3, 1, 1, 1)),
    "one blur": BLUR[None, None],
    "edges of each channel": np.tile(SOBEL, (3, 1, 1, 1)),
    "positions with a row of padding": _padded(_positions(8, 6)),
    "positions, a tenth": 0.1 * _positions(7, 8),
    "positions along the last axis": _positions(8, 6).T[None].copy(),
    "rotations": np.tile(_positions(8, 6)[:, 1::2], 2),
    "Fourier kernels under a window": _fourier(16),
    "numbers of bins that a convolution averages": np.arange(4.0, dtype=np.float32)[
        None, :, None, None
    ],
    "Fourier kernels of sines under a window": _imaginary(16),
    "slopes by distance": _by_distance(6),
    "directed links, columns that sum to one": AVERAGES.T.copy(),
    "a Laplacian": _laplacian(),
    "a mask of -100": np.where(np.eye(4) > 0, -100, 0).astype(np.float32),
    "two edges": np.stack([SOBEL, SOBEL.T])[:, None],
    "wavelets": _haar(),
    "Haar's two filters": np.array([[[0.5, 0.5]], [[0.5, -0.5]]], np.float32),
    "Daubechies' filters of each channel": _two_bands(),
    "Gabor's filters": _gabor(15),
    "band passes": _band_passes(31),
    "Gauss' filter": np.outer(np.hanning(5), np.hanning(5))[None, None].astype("f4"),
    "a moving average": np.full((2, 1, 5), 0.2, np.float32),
    "groups, columns that sum to one": (ADJACENCY / ADJACENCY.sum(0))[:, :3].copy(),
    "cosine transform": _cosines(6),
    "cosine transform, turned": _cosines(6).T.copy(),
    "trend of N-BEATS, powers of time": np.vander(
        np.linspace(0, 1, 12), 5, increasing=True
    ).T.astype(np.float32),
    "Legendre polynomials": np.polynomial.legendre.legvander(
        np.linspace(-1, 1, 9), 3
    ).astype(np.float32),
}


@pytest.mark.parametrize("case", NO_WEIGHTS)
def test_values_of_a_constant_are_known(case: str) -> None:
    assert constant_tensors.by_value(NO_WEIGHTS[case])


ELSEWHERE: dict[str, Values] = {
    "a window": np.hanning(9).astype(np.float32),
    "a window of a longer period": np.hamming(17)[:16].astype(np.float32),
    "centres in a row": np.linspace(-2, 2, 8, dtype=np.float32),
    "frequencies": (1e4 ** (-np.arange(8) / 8)).astype(np.float32),
    "slopes, turned": (0.5 ** np.arange(1, 9)).reshape(8, 1, 1).astype(np.float32),
    "anchors": np.array([[10, 13], [16, 30], [33, 23]], np.float32),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_values_in_a_row_are_constants_away_from_layers(case: str) -> None:
    assert constant_tensors.by_value(ELSEWHERE[case], layer=False)
    assert not constant_tensors.by_value(np.flip(_drawn(ELSEWHERE[case])), layer=False)


def _drawn(like: Values) -> Values:
    drawn: Values = RNG.standard_normal(like.shape).astype(np.float32)
    return drawn


def test_zeros_and_ones_that_multiply_are_a_mask_and_a_bias_is_none() -> None:
    value = np.array([1, 1, 0, 1, 0], np.float32)

    assert constant_tensors.by_value(value, layer=False, factor=True)
    assert not constant_tensors.by_value(value, layer=False)


WEIGHTS: dict[str, Values] = {
    "state matrix, log of 1 to 8 in each row": np.log(
        np.tile(np.arange(1, 9), (5, 1))
    ).astype(np.float32),
    "channels handed on": (np.eye(4)[:, :, None] * [0, 1, 0]).astype(np.float32),
    "whole numbers in a layer": np.arange(12, dtype=np.float32).reshape(4, 3),
    "normal": RNG.standard_normal((6, 6)).astype(np.float32),
    "uniform": RNG.uniform(-0.1, 0.1, (8, 3, 3, 3)).astype(np.float32),
    "positive": np.exp(RNG.standard_normal((5, 4))).astype(np.float32),
    "orthogonal": np.linalg.qr(RNG.standard_normal((6, 6)))[0].astype(np.float32),
    "identity": np.eye(5, dtype=np.float32),
    "half an identity": 0.5 * np.eye(5, dtype=np.float32),
    "fresh gain": np.ones((3, 1, 1), np.float32),
    "fresh bias": np.zeros((4, 4), np.float32),
    "fresh kernels, all alike": np.full((4, 3, 5), 0.5, np.float32),
    "kernels of three": RNG.standard_normal((5, 1, 3)).astype(np.float32),
    "orthogonal kernels": np.linalg.qr(RNG.standard_normal((4, 4)))[0][:, None].astype(
        np.float32
    ),
    "half of it cut away": (
        RNG.standard_normal((8, 8)) * (RNG.random((8, 8)) > 0.6)
    ).astype(np.float32),
    "signs": np.sign(RNG.standard_normal((6, 8))).astype(np.float32),
    "two lines of few places": np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2),
    "constant columns": np.tile([[0.5, 2.0]], (9, 1)).astype(np.float32),
    "forget gates": np.repeat([[0.0, 1.0, 0.0, 0.0]], 3, axis=1)[0].astype(np.float32),
    "embedding of unit rows": (
        lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    )(RNG.standard_normal((9, 6))).astype(np.float32),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_values_of_a_weight_stay_a_weight(case: str) -> None:
    value = WEIGHTS[case]

    assert constant_tensors.never(value) == constant_tensors.by_value(value) == ""


@pytest.mark.parametrize(
    ("values", "is_constant"),
    [
        pytest.param([0.0, -np.inf], True, id="minus infinity"),
        pytest.param([0.0, -1e9], True, id="far below"),
        pytest.param([0.0, -65504.0], True, id="half precision"),
        pytest.param([1.0, 3.4e38], True, id="a bound"),
        pytest.param([0.3, np.inf], True, id="an infinity"),
        pytest.param([0.3, -37000.0], False, id="an intercept"),
        pytest.param([-37000.0, -37000.0], False, id="two intercepts"),
        pytest.param([0.3, np.nan], False, id="diverged, to be refused"),
    ],
)
def test_masks_and_bounds_are_constants_in_any_file(
    values: list[float], *, is_constant: bool
) -> None:
    assert bool(constant_tensors.never(np.array(values, np.float32))) == is_constant


_HALVES = (np.float16, ml_dtypes.bfloat16)


def _kept(values: NDArray[np.float64], half: type) -> NDArray[np.float32]:
    """Values as 16 bits keep them."""
    return values.astype(half).astype(np.float32)


@pytest.mark.parametrize("half", _HALVES)
def test_positions_that_were_kept_in_sixteen_bits_are_constants(half: type) -> None:
    angles = np.arange(20)[:, None] / 10_000 ** (np.arange(0, 16, 2) / 16)
    table = np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(20, 16)

    assert constant_tensors.by_value(_kept(table, half))


@pytest.mark.parametrize("half", _HALVES)
def test_weights_that_were_kept_in_sixteen_bits_stay_weights(half: type) -> None:
    rng = np.random.default_rng(5)
    shapes = [(4, 3), (4, 2), (6, 4), (8, 1), (16, 16), (24,)]
    drawn = [rng.standard_normal(shape) for shape in shapes for _ in range(200)]

    assert not any(constant_tensors.by_value(_kept(value, half)) for value in drawn)
