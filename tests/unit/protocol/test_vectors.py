"""Update vectors: exact where they decode and sum, unbiased where they round."""

import hashlib
import tracemalloc
import zlib
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from protocol.errors import DecodeError, NonFinite, NormExceeded, ShapeMismatch
from protocol.task import BUFFER_MAX, Q15
from protocol.vectors import (
    BLOCK,
    CODECS,
    EXPONENT_MAX,
    EXPONENT_MIN,
    MAGNITUDE_BITS,
    SCALE_BITS,
    VALUE_BITS,
    Draw,
    Grid,
    GridVector,
    codec_number,
    decode_block8,
    decode_float32,
    decode_packed8,
    encode_block8,
    encode_float32,
    encode_packed8,
    from_grid,
    norm_squared,
    to_grid,
)

INT64_MAX = (1 << 63) - 1
GRID_MOST = (1 << MAGNITUDE_BITS) - 1


def seeded(seed: bytes) -> Draw:
    """Repeatable bytes that look random."""
    return lambda count: hashlib.shake_256(seed).digest(count)


def grid(*values: int) -> Grid:
    return np.array(values, np.int64)


def block(exponents: list[int], levels: list[int]) -> bytes:
    return np.array([*exponents, *levels], np.int8).tobytes()


integers = st.integers(-(1 << VALUE_BITS) + 1, (1 << VALUE_BITS) - 1)


@given(
    st.lists(st.integers(-127, 127), min_size=1, max_size=3 * BLOCK),
    st.lists(st.integers(EXPONENT_MIN, EXPONENT_MAX), min_size=3, max_size=3),
)
def test_block8_decodes_to_levels_times_powers(
    levels: list[int], exponents: list[int]
) -> None:
    d = len(levels)
    used = exponents[: -(-d // BLOCK)]

    decoded = decode_block8(block(used, levels), d)

    assert decoded.tolist() == [
        level * 2 ** (used[i // BLOCK] + SCALE_BITS) for i, level in enumerate(levels)
    ]


@given(st.lists(integers, min_size=1, max_size=600), st.integers(-62, 7), st.binary())
def test_block8_of_any_vector_is_within_a_step_and_decodes(
    values: list[int], exponent: int, seed: bytes
) -> None:
    vector = GridVector(grid(*values), exponent)

    payload = encode_block8(vector, seeded(seed))
    decoded = decode_block8(payload, len(values))

    exponents = np.frombuffer(payload, np.int8, -(-len(values) // BLOCK)).tolist()
    for i, (value, found) in enumerate(zip(values, decoded.tolist(), strict=True)):
        step = Fraction(2) ** exponents[i // BLOCK]
        exact = value * Fraction(2) ** exponent
        most = 127 * step
        wanted = min(max(exact, -most), most)
        assert abs(Fraction(found, 1 << SCALE_BITS) - wanted) < step


@given(st.lists(st.integers(-127, 127), min_size=1, max_size=600), st.integers(-24, 7))
def test_block8_of_what_fits_is_exact(levels: list[int], exponent: int) -> None:
    vector = GridVector(grid(*levels), exponent)

    decoded = decode_block8(encode_block8(vector, seeded(b"any")), len(levels))

    assert decoded.tolist() == [x * 2 ** (exponent + SCALE_BITS) for x in levels]


@pytest.mark.parametrize(
    ("most", "exponent"),
    [(0, -24), (127, -24), (128, -23), (254, -23), (255, -22), (1 << 61, 7)],
)
def test_block8_takes_the_smallest_exponent_that_fits(most: int, exponent: int) -> None:
    payload = encode_block8(GridVector(grid(most, 0), -24), seeded(b"x"))

    assert np.frombuffer(payload, np.int8, 1)[0] == exponent


@pytest.mark.parametrize("value", [1, -1, 37, 64, 100, -100])
def test_block8_rounding_is_unbiased(value: int) -> None:
    # 128 steps of the fine grid make one step of the coarse one. The mean of 65,536
    # roundings deviates by more than 6 of its standard deviations in 2 of 10^9 seeds.
    count = 1 << 16
    values = np.full(count, value, np.int64)
    values[::BLOCK] = 127 * 128
    rounded = decode_block8(
        encode_block8(GridVector(values, -24), seeded(b"unbiased")), count
    )
    others = np.arange(count) % BLOCK != 0
    fraction = value / 128 % 1
    deviation = 128 * (fraction * (1 - fraction) / others.sum()) ** 0.5

    assert abs(rounded[others].mean() - value) < 6 * deviation
    assert set((rounded[others] // 128).tolist()) == {value // 128, value // 128 + 1}


@pytest.mark.parametrize("random", [0x00, 0xFF], ids=["all zeros", "all ones"])
def test_block8_of_extreme_draws_stays_next_to_the_value(random: int) -> None:
    vector = GridVector(grid(127 * 128, 100, -100, -127 * 128), -24)

    payload = encode_block8(vector, lambda count: bytes([random]) * count)

    down, up = [127, 0, -1, -127], [127, 1, 0, -127]
    levels = np.frombuffer(payload, np.int8, 4, 1).tolist()
    assert levels == (up if random else down)


@pytest.mark.parametrize("sign", [1, -1])
def test_block8_beyond_the_largest_step_saturates(sign: int) -> None:
    vector = GridVector(grid(sign << 61, sign), -24)

    decoded = decode_block8(encode_block8(vector, seeded(b"x")), 2)

    assert decoded[0] == sign * 127 << (EXPONENT_MAX + SCALE_BITS)


def test_block8_draws_eight_bytes_a_padded_coordinate() -> None:
    asked: list[int] = []

    def draw(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    encode_block8(GridVector(np.ones(BLOCK + 1, np.int64), 0), draw)

    assert asked == [8 * 2 * BLOCK]


@pytest.mark.parametrize(
    ("payload", "dimension", "error"),
    [
        (b"", 1, ShapeMismatch),
        (block([0], [1, 2]), 1, ShapeMismatch),
        (block([0], [1]), 2, ShapeMismatch),
        (block([0], [1] * 257), 257, ShapeMismatch),
        (block([EXPONENT_MIN - 1], [1]), 1, DecodeError),
        (block([EXPONENT_MAX + 1], [1]), 1, DecodeError),
        (block([0], [-128]), 1, DecodeError),
    ],
    ids=[
        "empty",
        "too long",
        "too short",
        "exponent missing",
        "exponent too small",
        "exponent too large",
        "level -128",
    ],
)
def test_block8_of_another_form_refuses(
    payload: bytes, dimension: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        decode_block8(payload, dimension)


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
    payload = encode_float32(GridVector(grid(*values), exponent), seeded(b""))

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
    block8 = decode_block8(block([EXPONENT_MAX], [-127]), 1)
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


@pytest.mark.parametrize("number", CODECS)
def test_codec_is_found_by_its_name(number: int) -> None:
    assert codec_number(CODECS[number].name) == number


def test_codec_of_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        codec_number("block3")


@pytest.mark.parametrize("number", CODECS)
@given(st.binary(max_size=700), st.integers(1, 700))
def test_codec_of_noise_refuses_or_decodes_within_bounds(
    number: int, noise: bytes, dimension: int
) -> None:
    try:
        decoded = CODECS[number].decode(noise, dimension)
    except (DecodeError, ShapeMismatch, NonFinite, NormExceeded):
        return

    assert decoded.shape == (dimension,)
    assert int(np.abs(decoded).max()) <= GRID_MOST


@given(st.lists(integers, min_size=1, max_size=600), st.integers(-62, 7), st.binary())
def test_packed8_decodes_to_what_block8_does(
    values: list[int], exponent: int, seed: bytes
) -> None:
    vector = GridVector(grid(*values), exponent)
    d = len(values)

    plain = decode_block8(encode_block8(vector, seeded(seed)), d)
    packed = decode_packed8(encode_packed8(vector, seeded(seed)), d)

    assert packed.tolist() == plain.tolist()


def test_packed8_of_gaussian_noise_is_a_tenth_shorter() -> None:
    noise = np.random.Generator(np.random.PCG64(1)).normal(0, 1 << 20, 6490)
    vector = GridVector(np.rint(noise).astype(np.int64), -24)

    packed = len(encode_packed8(vector, seeded(b"x")))

    assert packed < 0.92 * len(encode_block8(vector, seeded(b"x")))


def deflated(plain: bytes) -> bytes:
    return zlib.compress(plain, 9, wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("payload", "dimension"),
    [
        (b"", 1),
        (b"\xff\xff", 1),
        (deflated(b""), 1),
        (deflated(block([0], [1])) + b"\x00", 1),
        (deflated(block([0], [1]))[:-1], 1),
        (deflated(block([0], [1, 2])), 1),
        (deflated(block([0], [1])), 2),
        (deflated(block([0], [-128])), 1),
        (deflated(bytes(1 << 24)), 1),
        (zlib.compress(block([0], [1])), 1),
    ],
    ids=[
        "empty",
        "noise",
        "nothing inside",
        "bytes left over",
        "cut",
        "too long inside",
        "too short inside",
        "level -128",
        "16 MiB of zeros",
        "with a header",
    ],
)
def test_packed8_of_another_form_refuses(payload: bytes, dimension: int) -> None:
    with pytest.raises((ShapeMismatch, DecodeError)):
        decode_packed8(payload, dimension)


def test_packed8_of_a_bomb_unpacks_no_more_than_the_vector() -> None:
    bomb = deflated(bytes(1 << 24))

    tracemalloc.start()
    with pytest.raises(ShapeMismatch):
        decode_packed8(bomb, 100)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 200_000
