"""Rotated codecs on the wire: their exact length, their form, what is refused."""

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.errors import DecodeError, NormExceeded, ShapeMismatch
from starling.protocol.learning.codec_terms import (
    BLOCK,
    CODEC_TERMS,
    SEED_BYTES,
    codec_number,
)
from starling.protocol.learning.vector_codecs import (
    CODECS,
    EXPONENT_MAX,
    MAGNITUDE_BITS,
    VALUE_BITS,
    GridVector,
)

ROTATED = [number for number, terms in CODEC_TERMS.items() if terms.rotated]
GRID_MOST = (1 << MAGNITUDE_BITS) - 1
FULL = 1 << 15
integers = st.integers(-(1 << VALUE_BITS) + 1, (1 << VALUE_BITS) - 1)
codecs = pytest.mark.parametrize(
    "codec", ROTATED, ids=[CODEC_TERMS[number].name for number in ROTATED]
)


def payload(
    codec: int, exponents: list[int], mantissas: list[int], fill: int = 0
) -> bytes:
    """Blocks whose levels are all the same byte."""
    levels = bytes([fill]) * (len(exponents) * BLOCK * CODEC_TERMS[codec].bits // 8)
    scales = np.array(exponents, np.int8).tobytes()
    return bytes(SEED_BYTES) + scales + np.array(mantissas, "<u2").tobytes() + levels


@codecs
@given(st.lists(integers, min_size=1, max_size=600), st.integers(-62, 7), st.binary())
def test_rotated_update_of_anything_has_its_length_and_decodes(
    codec: int, values: list[int], exponent: int, seed: bytes
) -> None:
    vector = GridVector(np.array(values, np.int64), exponent)
    draw = hashlib.shake_256(seed).digest

    found = CODECS[codec].encode(vector, draw)

    assert len(found) == CODEC_TERMS[codec].payload_bytes_max(len(values))
    decoded = CODECS[codec].decode(found, len(values))
    assert decoded.shape == (len(values),)
    assert int(np.abs(decoded).max()) <= GRID_MOST


@pytest.mark.parametrize(
    ("name", "bytes_of_21840"),
    [("rotated4", 11_282), ("rotated2", 5_778), ("rotated1", 3_026)],
)
def test_rotated_length_is_what_the_tables_say(name: str, bytes_of_21840: int) -> None:
    terms = CODEC_TERMS[codec_number(name)]

    assert terms.payload_bytes_max(21_840) == bytes_of_21840
    assert terms.payload_bytes_max(1) == terms.payload_bytes_max(BLOCK)


@codecs
def test_rotated_parts_of_a_long_vector_are_those_of_one(codec: int) -> None:
    # 65,536 values are worked on at once: what a block becomes must not tell where.
    d = (1 << 16) + 300
    rng = np.random.default_rng(1)
    vector = GridVector(rng.integers(-(1 << 30), 1 << 30, d), -24)

    found = CODECS[codec].encode(vector, rng.bytes)
    decoded = CODECS[codec].decode(found, d)

    terms, count = CODEC_TERMS[codec], -(-d // BLOCK)
    scales, levels = SEED_BYTES + count, SEED_BYTES + 3 * count
    size = BLOCK * terms.bits // 8
    for block in (0, 255, 256, 257):
        alone = (
            found[:SEED_BYTES]
            + found[SEED_BYTES + block :][:1]
            + found[scales + 2 * block :][:2]
            + found[levels + size * block :][:size]
        )
        expected = CODECS[codec].decode(alone, BLOCK)[: d - BLOCK * block]
        assert decoded[BLOCK * block :][:BLOCK].tolist() == expected.tolist()


@codecs
@pytest.mark.parametrize("difference", [-1, 1])
def test_rotated_update_of_another_length_is_refused(
    codec: int, difference: int
) -> None:
    whole = payload(codec, [0, 0], [FULL, FULL])

    for dimension in (257, 400, 512):
        assert CODECS[codec].decode(whole, dimension).size == dimension
    for dimension in (1, 256, 513):
        with pytest.raises(ShapeMismatch):
            CODECS[codec].decode(whole, dimension)
    with pytest.raises(ShapeMismatch):
        CODECS[codec].decode((whole + b"\x00")[: len(whole) + difference], 512)


@codecs
@pytest.mark.parametrize(
    ("exponent", "mantissa"),
    [(-41, FULL), (16, FULL), (127, FULL), (0, FULL - 1), (0, 1), (0, 0), (-39, 0)],
    ids=[
        "exponent too small",
        "exponent too large",
        "exponent far too large",
        "mantissa with a leading zero",
        "mantissa of one",
        "nothing with an exponent",
        "nothing with another exponent",
    ],
)
@pytest.mark.parametrize("block", [0, 1])
def test_rotated_scale_of_another_form_is_refused(
    codec: int, exponent: int, mantissa: int, block: int
) -> None:
    exponents, mantissas = [0, -40], [FULL, 0]
    exponents[block], mantissas[block] = exponent, mantissa

    with pytest.raises(DecodeError):
        CODECS[codec].decode(payload(codec, exponents, mantissas), 512)


@codecs
def test_rotated_update_beyond_the_range_is_refused(codec: int) -> None:
    # Equal levels leave all of a block in few coordinates after one rotation.
    whole = payload(codec, [15], [0xFFFF])

    with pytest.raises(NormExceeded):
        CODECS[codec].decode(whole, BLOCK)


@codecs
@pytest.mark.parametrize("sign", [1, -1])
def test_rotated_update_beyond_the_largest_scale_saturates(
    codec: int, sign: int
) -> None:
    values = np.full(BLOCK, sign << 61, np.int64)

    found = CODECS[codec].encode(GridVector(values, EXPONENT_MAX), np.random.bytes)
    decoded = CODECS[codec].decode(found, BLOCK)

    assert 0.99 * GRID_MOST < np.abs(decoded).max() <= GRID_MOST
    assert sign * decoded.sum() > 0


@codecs
def test_rotated_update_draws_its_seed_its_rounding_and_its_scales(codec: int) -> None:
    asked: list[int] = []

    def draw(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    CODECS[codec].encode(GridVector(np.ones(BLOCK + 1, np.int64), 0), draw)

    assert asked == [SEED_BYTES, 8 * 2 * BLOCK, 4 * 2]


@codecs
def test_rotated_update_decodes_in_parts(codec: int) -> None:
    d = 1 << 20
    blocks = d // BLOCK
    whole = payload(codec, [0] * blocks, [FULL] * blocks, 0x5A)

    tracemalloc.start()
    CODECS[codec].decode(whole, d)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 8 * d + (1 << 16) * 50
