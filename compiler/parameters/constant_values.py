"""Values that were computed by a formula, and so are no weights.

Tables of waves (positions, rotations, Fourier kernels), ramps, decays, windows,
distances between places, filters of edges, grids and anchors: what was trained, or
drawn for training, practically never satisfies one of these equations.

Source: Su et al., arXiv:2104.09864 (rotations); Press et al., arXiv:2108.12409
(slopes by distance); Harris 1978 (windows).
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from starling.compiler.ir.network import Array

_Reals = NDArray[np.float64]
_CLOSE = 1e-4
_CLOSE_HALF, _CLOSE_BFLOAT16 = 2e-3, 1.6e-2
"""The same for numbers that were kept in 16 bits: four roundings of the largest."""
_BELOW_BFLOAT16 = np.uint32(0xFFFF)
"""Bits of a float32 that bfloat16 does not keep."""
_ROUNDING = 1e-5
"""Share of the largest value below which a number is one of rounding."""
_EQUATIONS_MIN = 4
"""Beyond the numbers that are fitted; each holds by chance once in ten thousand."""
_WINDOW_MIN = 8
_DEGREES_MAX, _PLACES_MAX = 32, 4096
"""Of a basis of polynomials."""
_SAMPLE = 64
"""Columns that are looked at before all are."""
_SPREAD_MAX = 16
"""Of a filter of whole numbers: the largest over the smallest."""
_FEW_MIN, _FEW_MAX = 16, 3
"""Values of a matrix, and how many kinds of them are few."""
_SIDE_MAX = 512
"""Of a matrix whose rows are compared, at the cost of a cube."""
_BIAS_MIN = 20.0
"""How far below 0 a mask of two values puts what is left out."""


def waves(value: Array) -> bool:
    """True if lines along some axis are sines or decays: s(k+1) + s(k-1) = c s(k)."""
    return any(_follows(value, axis, ramps=False) for axis in range(value.ndim))


def ramps(value: Array) -> bool:
    """The same, and straight lines."""
    return any(_follows(value, axis, ramps=True) for axis in range(value.ndim))


def _follows(value: Array, axis: int, *, ramps: bool) -> bool:
    if value.shape[axis] < 4:
        return False
    lines = np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)
    sampled = _recurrent(lines[:, :_SAMPLE].astype(np.float64), ramps=ramps)
    if not sampled or lines.shape[1] <= _SAMPLE:
        return sampled
    return _recurrent(lines.astype(np.float64), ramps=ramps)


def _recurrent(lines: _Reals, *, ramps: bool) -> bool:
    """True if every column obeys the recurrence, and enough of them change.

    Rows of zeros stand for padding or a class token, and are passed over; so is what
    rounding left of a zero (the sine of half a turn).
    """
    # sin(pi) in float32 is 1e-7 and no 0, and would break the recurrence.
    least = _ROUNDING * np.abs(lines).max(initial=0.0)
    lines = np.where(np.abs(lines) <= least, 0.0, lines)
    blank = (lines == 0.0).all(axis=1)
    if blank.all():
        return False
    inside = ~(blank[:-2] | blank[1:-1] | blank[2:])
    middle, sums = lines[1:-1][inside], (lines[:-2] + lines[2:])[inside]
    size = np.abs(lines).max(axis=0)
    steady = np.ptp(lines[~blank], axis=0) <= _CLOSE * size
    squares = (middle * middle).sum(axis=0)
    # Least squares for c = 2 cos(step): the one unknown that a wave leaves.
    factor = (middle * sums).sum(axis=0) / np.where(squares > 0.0, squares, 1.0)
    off = np.abs(sums - factor * middle).max(axis=0, initial=0.0)
    # A column that never changes obeys any recurrence, and so says nothing.
    telling = ~steady & (squares > 0.0)
    equations = (len(middle) - 1) * int(telling.sum())
    for close, needed in _precisions(lines):
        # c = 2 is a straight line: a ramp and no wave.
        curved = ramps or bool((np.abs(factor - 2.0) > close)[telling].any())
        holds = not (off > close * np.maximum(size, 1e-30)).any()
        if holds and curved and equations >= needed:
            return True
    return False


def _precisions(lines: _Reals) -> Iterator[tuple[float, int]]:
    """Tolerances by what numbers were kept in, and how many equations must hold."""
    yield _CLOSE, _EQUATIONS_MIN
    single = lines.astype(np.float32)
    with np.errstate(over="ignore"):
        if np.array_equal(single.astype(np.float16).astype(np.float32), single):
            yield _CLOSE_HALF, 2 * _EQUATIONS_MIN
    if not (single.view(np.uint32) & _BELOW_BFLOAT16).any():
        yield _CLOSE_BFLOAT16, 4 * _EQUATIONS_MIN


def polynomials(value: Array) -> bool:
    """Powers or other polynomials of evenly spaced places, as many as they are high.

    Places beyond the degrees are what tells: a trend of N-BEATS, a Legendre basis.
    """
    if value.ndim != 2:
        return False
    lines = value.astype(np.float64)
    tall = lines if len(lines) > lines.shape[1] else lines.T
    places, degrees = tall.shape
    spare = (places - degrees) * degrees
    if degrees < 2 or degrees > _DEGREES_MAX or spare < _EQUATIONS_MIN:
        return False
    if places > _PLACES_MAX or np.linalg.matrix_rank(tall) < degrees:
        return False
    grid = np.linspace(-1.0, 1.0, places)
    # Any basis of polynomials spans what Legendre's does, so that what is left over is
    # 0.
    basis, _ = np.linalg.qr(np.polynomial.legendre.legvander(grid, degrees - 1))
    off = np.abs(tall - basis @ (basis.T @ tall)).max(axis=0)
    return bool((off <= _CLOSE * np.abs(tall).max(axis=0)).all())


def rotations(tensors: Mapping[str, Array]) -> frozenset[str]:
    """Names of cosines and sines of the same angles: their squares sum to 1.

    Args:
      tensors: Name to value; fresh gains of 1 beside biases of 0 are none.
    """
    groups: dict[tuple[int, ...], list[tuple[str, _Reals]]] = {}
    for name, value in tensors.items():
        flat = value.reshape(-1)
        large = value.size >= _EQUATIONS_MIN and bool((flat != flat[0]).any())
        if large and np.abs(flat).max() <= 1.0 + _CLOSE:
            square = np.square(flat.astype(np.float64))
            groups.setdefault(value.shape, []).append((name, square))
    found = set[str]()
    for group in groups.values():
        # The first and last value part most pairs; only the rest is compared in full.
        ends = np.stack([square[[0, -1]] for _, square in group])
        for index, (name, square) in enumerate(group):
            gaps = np.abs(ends[index] + ends[index + 1 :] - 1.0).max(axis=1)
            for place in np.flatnonzero(gaps <= _CLOSE):
                other, rest = group[index + 1 + int(place)]
                if np.abs(square + rest - 1.0).max() <= _CLOSE:
                    found.update((name, other))
    return frozenset(found)


def window(value: Array) -> bool:
    """One line that rises from its ends to its middle, the same on both sides."""
    line = value.reshape(-1).astype(np.float64)
    if line.size < _WINDOW_MIN or line.size != max(value.shape) or line.min() < -_CLOSE:
        return False
    return any(
        bool(np.allclose(part, part[::-1], rtol=0.0, atol=_CLOSE * line.max()))
        and bool((np.diff(part[: (len(part) + 1) // 2]) >= -_CLOSE * line.max()).all())
        # Periodic windows lack the last value, so that they are symmetric without the
        # first.
        for part in (line, line[1:])
    )


def distances(value: Array) -> bool:
    """Square matrices whose values depend on the distance from the diagonal alone."""
    if value.ndim < 2 or value.shape[-1] != value.shape[-2] or value.shape[-1] < 4:
        return False
    same = np.array_equal(value[..., 1:, 1:], value[..., :-1, :-1])
    outside = ~np.eye(value.shape[-1], dtype=bool)
    return same and bool(value[..., outside].any())


def differences(value: Array) -> bool:
    """A Laplacian: rows or columns sum to 0, all but the diagonal of one sign."""
    if value.ndim != 2 or value.shape[0] != value.shape[1] or len(value) < 3:
        return False
    matrix = value.astype(np.float64)
    off = matrix - np.diag(np.diag(matrix))
    one_sided = off.any() and (off.max() <= 0.0 or off.min() >= 0.0)
    close = _CLOSE * np.abs(matrix).max()
    sums = [np.abs(matrix.sum(axis=axis)).max() <= close for axis in (0, 1)]
    return bool(one_sided and any(sums))


def edges(value: Array) -> bool:
    """Filters of one channel each that sum to 0, of a few whole multiples."""
    if value.ndim < 3 or value.shape[1] != 1 or value.size < 6:
        return False
    rows = value.reshape(len(value), -1).astype(np.float64)
    least = np.where(rows == 0.0, np.inf, np.abs(rows)).min(axis=1, keepdims=True)
    if rows.shape[1] < 3 or not np.isfinite(least).all():
        return False
    counts = rows / least
    whole = np.abs(counts - np.round(counts)).max() <= _CLOSE
    flat = np.abs(counts.sum(axis=1)).max() <= _CLOSE
    return bool(whole and flat and np.abs(counts).max() <= _SPREAD_MAX)


def wavelets(value: Array) -> bool:
    """Orthogonal filters of one channel, one of them constant or the only low pass."""
    if value.ndim < 3 or value.shape[1] != 1:
        return False
    # The same wavelet is repeated for each channel.
    rows = np.unique(value.reshape(len(value), -1).astype(np.float64), axis=0)
    if not 2 <= len(rows) <= rows.shape[1]:
        return False
    product = rows @ rows.T
    lengths = np.diag(product)
    close = _CLOSE * lengths.max()
    if np.abs(product - np.diag(lengths)).max() > close:
        return False
    sums = np.abs(rows.sum(axis=1)) > _CLOSE * np.abs(rows).max()
    alike = bool(np.ptp(lengths) <= close)
    constant = (np.ptp(rows, axis=1) <= _CLOSE * np.abs(rows).max()).any()
    square = len(rows) == rows.shape[1] >= _EQUATIONS_MIN
    return bool(square and constant) or (alike and np.count_nonzero(sums) == 1)


def symmetric_filters(value: Array) -> bool:
    """Filters that all read the same from both ends, or with the other sign.

    So do band passes (sinc), Gabor's and Gauss' filters, and derivatives of these.
    """
    if value.ndim < 3 or dirac(value):
        return False
    rows = value.reshape(value.shape[0] * value.shape[1], -1).astype(np.float64)
    rows = rows[rows.any(axis=1)]
    if not len(rows) or rows.shape[1] <= _EQUATIONS_MIN:
        return False
    close = _CLOSE * np.abs(rows).max(axis=1)
    even = np.abs(rows - rows[:, ::-1]).max(axis=1) <= close
    odd = np.abs(rows + rows[:, ::-1]).max(axis=1) <= close
    telling = np.count_nonzero(np.ptp(rows, axis=1) > close) * (rows.shape[1] // 2)
    return bool((even | odd).all() and telling >= _EQUATIONS_MIN)


def few_values(value: Array) -> bool:
    """A matrix of two or three values: signs, who belongs to whom, groups.

    Neither a diagonal nor rows or columns of one value each, as weights may start.
    """
    if value.ndim < 2 or value.size < _FEW_MIN or not np.isfinite(value).all():
        return False
    rows = value.reshape(-1, value.shape[-1])
    if not 2 <= len(np.unique(rows[: _FEW_MIN * 4])) <= _FEW_MAX:
        return False
    diagonal = rows.shape[0] == rows.shape[1] and not np.count_nonzero(
        rows - np.diag(np.diag(rows))
    )
    lines = [bool(np.ptp(rows, axis=axis).any()) for axis in (0, 1)]
    few = len(np.unique(rows)) <= _FEW_MAX and not dirac(value)
    return few and all(lines) and not diagonal


def averaging(value: Array) -> bool:
    """A convolution all of whose values are equal, and add up to 1 in each filter."""
    filters = value.reshape(len(value), -1) if value.ndim >= 3 else value[:0]
    if not filters.size or filters.shape[1] < 2 or (value != value.flat[0]).any():
        return False
    return bool(abs(float(value.flat[0]) * filters.shape[1] - 1.0) <= _CLOSE)


def orthogonal(value: Array) -> bool:
    """Rows or columns at right angles, as the components of a PCA are."""
    rows = value.reshape(len(value), -1).astype(np.float64)
    rows = rows if len(rows) <= rows.shape[1] else rows.T
    if not 2 <= len(rows) <= _SIDE_MAX or not np.isfinite(rows).all():
        return False
    if not rows.any(axis=1).all():
        return False
    lengths = np.sqrt((rows * rows).sum(axis=1))
    # Most weights are told apart by their first rows, without the cube.
    if abs(rows[0] @ rows[1]) > _CLOSE * lengths[0] * lengths[1]:
        return False
    cosines = (rows @ rows.T) / np.outer(lengths, lengths)
    near = np.abs(cosines - np.eye(len(rows))).max() <= _CLOSE
    alike = np.ptp(lengths) <= _CLOSE * lengths.max()
    # One right angle may be chance; that and equal lengths are not.
    return bool(near and (len(rows) > 2 or alike)) and not dirac(value)


def whole_numbers(value: Array) -> bool:
    """Whole numbers, not all equal and some beyond 1: grids, strides, anchors."""
    numbers = value.astype(np.float64)
    whole = value.size > 1 and bool((numbers == np.round(numbers)).all())
    return whole and bool(np.ptp(numbers) > 0.0 and np.abs(numbers).max() > 1.0)


def two_sided(value: Array) -> bool:
    """Zeros (or ones) and one other value far below: a mask that is added."""
    numbers = value.astype(np.float64)
    low, high = numbers.min(), numbers.max()
    if low > -_BIAS_MIN or high not in (0.0, 1.0):
        return False
    return bool(((numbers == low) | (numbers == high)).all())


def chooses(value: Array) -> bool:
    """Zeros and ones, both of them."""
    ones = value == 1.0
    mixed = 0 < int(np.count_nonzero(ones)) < value.size
    return mixed and bool((ones | (value == 0.0)).all())


def dirac(value: Array) -> bool:
    """True if a convolution hands its channels on, as a weight may start."""
    if value.ndim < 3:
        return False
    middle = tuple([size // 2 for size in value.shape[2:]])
    rest = value.copy()
    rest[(slice(None), slice(None), *middle)] = 0.0
    core = value[(slice(None), slice(None), *middle)]
    once = (np.count_nonzero(core, axis=1) <= 1).all()
    return not rest.any() and bool(once)
