"""Rotated blocks: unbiased whatever they hold, hardly longer, as noisy as stated."""

import hashlib
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from starling.protocol.learning.codec_terms import (
    BLOCK,
    CODEC_TERMS,
    SEED_BYTES,
    CodecTerms,
)
from starling.protocol.learning.rotated_blocks import (
    VALUE_MAX,
    RotatedBlocks,
    quantised,
    restored,
)

ROTATED = [terms for terms in CODEC_TERMS.values() if terms.rotated]
MOST = (1 << 38) - 1
_RNG = np.random.default_rng(5)
UNIT = 1 << 20


def block(*values: float) -> NDArray[np.int64]:
    """A block with these values first and zeros behind them."""
    found = np.zeros(BLOCK, np.int64)
    found[: len(values)] = np.rint(np.array(values) * UNIT)
    return found


SHAPES = {
    "normal": block(*_RNG.normal(size=BLOCK)),
    "one": block(1),
    "two": block(2, 1),
    "equal two": block(1, 1),
    "one and a tenth": block(1, 0.1),
    "eight": block(*range(1, 9)),
    "constant": block(*np.ones(BLOCK)),
    "heavy tails": block(*np.clip(_RNG.standard_t(2, BLOCK), -40, 40)),
}
ROWS = np.stack(list(SHAPES.values()))


def decoded(
    rows: NDArray[np.int64], bits: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    exponents = np.zeros(len(rows), np.int64)
    return restored(
        quantised(rows, exponents, bits, rng.bytes(SEED_BYTES), rng.random, MOST)
    )


@cache
def trials(bits: int) -> NDArray[np.float64]:
    """Blocks of every shape, decoded under 400 rotations."""
    rng = np.random.default_rng(bits)
    return np.stack([decoded(ROWS, bits, rng) for _ in range(400)]).astype(np.float64)


@pytest.mark.parametrize("terms", ROTATED, ids=lambda terms: terms.name)
@pytest.mark.parametrize("shape", range(len(SHAPES)), ids=list(SHAPES))
def test_rotated_block_is_unbiased_whatever_it_holds(
    terms: CodecTerms, shape: int
) -> None:
    exact, found = ROWS[shape], trials(terms.bits)[:, shape]

    bias = found.mean(0) - exact

    # Squared bias over that of unbiased noise is 1, with a deviation of a tenth, as of
    # 256 coordinates. With one rotation in place of two "two" has 400 at one bit.
    expected = ((found - exact) ** 2).sum(1).mean() / len(found)
    assert (bias**2).sum() < 1.6 * expected


@pytest.mark.parametrize("terms", ROTATED, ids=lambda terms: terms.name)
def test_rotated_block_keeps_its_product_with_what_it_was(terms: CodecTerms) -> None:
    exact = ROWS.astype(np.float64)

    products = (trials(terms.bits) * exact).sum(2) / (exact**2).sum(1)

    # One bit of few equal values meets its stretch once in thousands of times.
    np.testing.assert_allclose(products, 1, atol=0.01)
    # Rounding the scale down would make it 1.5e-5 less.
    np.testing.assert_allclose(products[:, 0].mean(), 1, atol=4e-6)


@pytest.mark.parametrize("terms", ROTATED, ids=lambda terms: terms.name)
def test_rotated_normal_block_is_as_noisy_as_its_terms_say(terms: CodecTerms) -> None:
    exact, found = ROWS[0], trials(terms.bits)[:, 0]

    error = ((found - exact) ** 2).sum(1).mean() / (exact.astype(float) ** 2).sum()

    assert math.sqrt(1 + error) == pytest.approx(terms.spread_milli / 1000, rel=4e-3)
    assert math.sqrt(1 + error) < terms.spread_milli / 1000


@pytest.mark.parametrize("terms", ROTATED, ids=lambda terms: terms.name)
@given(
    st.lists(st.integers(-VALUE_MAX, VALUE_MAX), min_size=1, max_size=BLOCK),
    st.integers(0, 1 << 30),
)
def test_rotated_block_is_longer_by_the_stretch_at_most(
    terms: CodecTerms, values: list[int], seed: int
) -> None:
    row = np.pad(np.array([values], np.int64), ((0, 0), (0, BLOCK - len(values))))

    found = decoded(row, terms.bits, np.random.default_rng(seed))

    # Half a unit each is what rounding to the unit adds.
    length = np.linalg.norm(row.astype(float)) * terms.stretch + BLOCK**0.5 / 2
    assert np.linalg.norm(found.astype(float)) <= length


@pytest.mark.parametrize("terms", ROTATED, ids=lambda terms: terms.name)
def test_rotated_block_of_zeros_stays_one(terms: CodecTerms) -> None:
    found = decoded(np.zeros((2, BLOCK), np.int64), terms.bits, _RNG)

    assert not found.any()


@pytest.mark.parametrize("terms", ROTATED, ids=lambda terms: terms.name)
@pytest.mark.parametrize("power", [-100, 40, 60])
def test_rotated_block_out_of_range_vanishes_or_saturates(
    terms: CodecTerms, power: int
) -> None:
    exponents = np.full(len(ROWS), power, np.int64)
    blocks = quantised(ROWS, exponents, terms.bits, bytes(16), _RNG.random, MOST)

    largest = np.abs(restored(blocks)).max(1)

    if power < 0:
        assert not largest.any()
    else:
        assert (largest <= MOST).all()
        assert (largest > 0.999 * MOST).all()


def test_rotation_goes_by_the_bits_of_two_digests() -> None:
    # A slow twin, from the text of the protocol alone.
    seed = bytes(range(16))
    signs = []
    for turn in (b"1", b"2"):
        digest = hashlib.blake2b(b"starling/rotation/" + turn + seed, digest_size=32)
        bits = int.from_bytes(digest.digest(), "little")
        signs.append([1 - 2 * (bits >> i & 1) for i in range(BLOCK)])
    levels = np.random.default_rng(2).choice([-3, -1, 1, 3], (1, BLOCK))
    mantissa, exponent = 40_001, -7

    def hadamard(row: list[int]) -> list[int]:
        return [
            sum((-1) ** (i & j).bit_count() * x for j, x in enumerate(row))
            for i in range(BLOCK)
        ]

    inner = [s * x for s, x in zip(signs[1], hadamard(levels[0].tolist()), strict=True)]
    outer = [s * x for s, x in zip(signs[0], hadamard(inner), strict=True)]
    expected = [math.floor(x * mantissa * 2.0**exponent + 0.5) for x in outer]

    found = restored(
        RotatedBlocks(
            seed,
            np.array([exponent], np.int8),
            np.array([mantissa], np.uint16),
            levels.astype(np.int32),
        )
    )

    assert found[0].tolist() == expected
