"""Vectors on the grid: nothing enters that int64 cannot hold, and sums are exact."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from starling.protocol.errors import NonFinite, NormExceeded, ShapeMismatch
from starling.protocol.learning.task import BUFFER_MAX, Q15
from starling.protocol.learning.vector_codecs import (
    EXPONENT_MAX,
    MAGNITUDE_BITS,
    SCALE_BITS,
    VALUE_BITS,
    Grid,
    GridVector,
    decode_block8,
    decode_float32,
    encode_float32,
    from_grid,
    norm_squared,
    to_grid,
)

INT64_MAX = (1 << 63) - 1
GRID_MOST = (1 << MAGNITUDE_BITS) - 1


def grid(*values: int) -> Grid:
    return np.array(values, np.int64)


@given(
    arrays.arrays(
        np.float32,
        st.integers(1, 50),
        elements=st.floats(-16383, 16383, width=32),
    )
)
def test_float32_decodes_to_the_nearest_grid_point(
    real: NDArray[np.float32],
) -> None:
    decoded = decode_float32(real.astype("<f4").tobytes(), real.size)

    expected = [round(Fraction(float(x)) * (1 << SCALE_BITS)) for x in real]
    assert decoded.tolist() == expected


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.5 * 2.0**-24, 0),
        (1.5 * 2.0**-24, 2),
        (2.5 * 2.0**-24, 2),
        (-1.5 * 2.0**-24, -2),
        (2.0**-149, 0),
        (-0.0, 0),
        (16383.999, (1 << 38) - (1 << 14)),
    ],
)
def test_float32_rounds_ties_to_even(real: float, expected: int) -> None:
    assert decode_float32(np.array([real], "<f4").tobytes(), 1).tolist() == [expected]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([0x7F800000], NonFinite),
        ([0xFF800000], NonFinite),
        ([0x7FC00000], NonFinite),
        ([0x7FA00001], NonFinite),
        ([0, 0x7FC00000, 0], NonFinite),
        ([0x46800000], NormExceeded),
        ([0xC6800000], NormExceeded),
        ([0x5F000000], NormExceeded),
        ([0x7F7FFFFF], NormExceeded),
        ([0xFF7FFFFF], NormExceeded),
        ([0x7149F2CA, 0x3F800000], NormExceeded),
    ],
    ids=[
        "infinity",
        "minus infinity",
        "NaN",
        "signalling NaN",
        "NaN inside",
        "2^14",
        "-2^14",
        "2^63",
        "largest",
        "smallest",
        "10^30",
    ],
)
def test_float32_that_the_grid_cannot_hold_refuses(
    words: list[int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        decode_float32(np.array(words, "<u4").tobytes(), len(words))


@pytest.mark.parametrize("real", [1e308, -1e308, 16384 - 2.0**-26])
def test_to_grid_of_a_float64_beyond_the_grid_refuses(real: float) -> None:
    with pytest.raises(NormExceeded):
        to_grid(np.array([real]))


@pytest.mark.parametrize(("length", "dimension"), [(0, 1), (3, 1), (5, 1), (8, 1)])
def test_float32_of_another_length_refuses(length: int, dimension: int) -> None:
    with pytest.raises(ShapeMismatch):
        decode_float32(bytes(length), dimension)


@given(st.lists(st.integers(-(1 << 24), 1 << 24), min_size=1), st.integers(-40, 0))
def test_float32_of_24_bit_values_is_exact(values: list[int], exponent: int) -> None:
    payload = encode_float32(GridVector(grid(*values), exponent), bytes)

    reals = np.frombuffer(payload, "<f4")
    assert [Fraction(float(x)) for x in reals] == [
        value * Fraction(2) ** exponent for value in values
    ]


def test_from_grid_is_the_nearest_float32() -> None:
    values = [0, 1, -1, 1 << 24, (1 << 24) + 1, GRID_MOST, -GRID_MOST]

    reals = from_grid(grid(*values))

    assert reals.dtype == np.float32
    assert reals.tolist() == [
        float(np.float32(value / (1 << SCALE_BITS))) for value in values
    ]


@pytest.mark.parametrize(
    ("values", "exponent"),
    [
        ([1 << VALUE_BITS], 0),
        ([-(1 << VALUE_BITS)], 0),
        ([-(1 << 63)], 0),
        ([1], EXPONENT_MAX + 1),
        ([1], -63),
    ],
)
def test_grid_vector_out_of_range_refuses(values: list[int], exponent: int) -> None:
    with pytest.raises(NormExceeded):
        GridVector(grid(*values), exponent)


@given(
    st.lists(st.integers(-GRID_MOST, GRID_MOST), min_size=1, max_size=200),
)
def test_norm_squared_is_exact(values: list[int]) -> None:
    assert norm_squared(grid(*values)) == sum(x * x for x in values)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("d", [1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_norm_squared_of_the_largest_vector_does_not_overflow(
    d: int, sign: int
) -> None:
    values = np.full(d, sign * GRID_MOST, np.int64)

    assert norm_squared(values) == d * GRID_MOST**2


@pytest.mark.parametrize("sign", [1, -1])
def test_weighted_sum_of_the_extremes_stays_inside_int64(sign: int) -> None:
    # The largest buffer of the largest updates at the largest weight.
    update = grid(sign * GRID_MOST)
    total = grid(0)

    for _ in range(BUFFER_MAX):
        total += Q15 * update

    assert int(total[0]) == sign * GRID_MOST * Q15 * BUFFER_MAX
    assert GRID_MOST * Q15 * BUFFER_MAX <= INT64_MAX


def test_largest_decoded_magnitude_is_within_the_documented_one() -> None:
    block8 = decode_block8(bytes([EXPONENT_MAX, 256 - 127]), 1)
    float32 = decode_float32(
        np.nextafter(np.float32(16384), np.float32(0)).astype("<f4").tobytes(), 1
    )

    assert max(-int(block8[0]), int(float32[0])) <= GRID_MOST


@given(
    st.lists(
        st.lists(st.integers(-GRID_MOST, GRID_MOST), min_size=3, max_size=3),
        min_size=2,
        max_size=4,
    )
)
def test_weighted_sum_does_not_depend_on_the_order(rows: list[list[int]]) -> None:
    weighted = [(Q15 - i) * grid(*row) for i, row in enumerate(rows)]

    sums = {sum(order, grid(0, 0, 0)).tobytes() for order in permutations(weighted)}

    assert len(sums) == 1
