"""Differences of models: exact, bounded, and refused where they do not fit."""

import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.errors import DecodeError
from starling.protocol.ids import H
from starling.protocol.wire.chunk_deltas import (
    CHUNK_DELTA,
    ChunkDelta,
    difference,
    is_delta,
    patched,
)
from starling.protocol.wire.chunks import CHUNK, CHUNK_BYTES, chunk_at, split

UNIT = 2.0**-24
_units = st.lists(
    st.tuples(st.integers(-(1 << 24), 1 << 24), st.integers(-9, 9)),
    min_size=1,
    max_size=300,
)


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def deflated(content: bytes) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return coder.compress(content) + coder.flush()


OLDER = floats(*[0.5] * 64)
NEWER = floats(*[0.5 + UNIT * each for each in range(64)])


def test_difference_is_zigzag_in_planes_of_bytes() -> None:
    older = floats(*[0.5] * 32)
    newer = floats(*[0.5 + UNIT * change for change in (1, -1, 300, -300)] * 8)

    found = difference(older, newer)

    assert found is not None
    low, next_up = bytes([2, 1, 88, 87]) * 8, bytes([0, 0, 2, 2]) * 8
    assert zlib.decompress(found, -zlib.MAX_WBITS) == low + next_up + bytes(64)


@given(_units)
def test_newer_piece_comes_out_bit_for_bit(pairs: list[tuple[int, int]]) -> None:
    older = floats(*[UNIT * base for base, _ in pairs])
    # float32 rounds what needs more than 24 bits; the result is on the grid again.
    newer = floats(*[UNIT * (base + change) for base, change in pairs])

    found = difference(older, newer)

    assert found is None or (patched(older, found) == newer and len(found) < len(newer))


def test_difference_of_a_step_is_much_shorter() -> None:
    found = difference(OLDER, NEWER)

    assert found is not None
    assert len(found) < len(NEWER) / 2
    assert patched(OLDER, found) == NEWER


@pytest.mark.parametrize(
    "newer",
    [
        floats(*[0.5] * 63, 2.0**-30),
        floats(*[0.5] * 63, float("nan")),
        floats(*[0.5] * 63, float("inf")),
        floats(*[0.5] * 63, 128.5),
        floats(*[0.5] * 63, -0.0),
        OLDER[:-4],
        OLDER[:-1],
    ],
    ids=["off the grid", "nan", "infinite", "far", "-0", "shorter", "no float32"],
)
def test_what_no_difference_gives_exactly_goes_whole(newer: bytes) -> None:
    assert difference(OLDER, newer) is None


def test_piece_whose_difference_is_longer_goes_whole() -> None:
    assert difference(floats(0.5), floats(0.25)) is None


@pytest.mark.parametrize(
    "change",
    [
        deflated(bytes(len(OLDER) + 1)),
        deflated(bytes(64 << 20)),
        deflated(bytes(len(OLDER) - 4)),
        deflated(bytes(len(OLDER)))[:-1],
        deflated(bytes(len(OLDER))) + b"\0",
        b"\xff" * 40,
        b"",
    ],
    ids=[
        "longer",
        "bomb",
        "shorter",
        "cut off",
        "with a tail",
        "not deflated",
        "empty",
    ],
)
def test_hostile_difference_is_refused(change: bytes) -> None:
    with pytest.raises(DecodeError):
        patched(OLDER, change)


def test_difference_for_what_is_no_model_is_refused() -> None:
    with pytest.raises(DecodeError):
        patched(OLDER[:-1], deflated(bytes(len(OLDER) - 1)))


def test_bomb_costs_no_more_than_the_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    inflate = zlib.decompressobj

    class Watched:
        def __init__(self, bits: int) -> None:
            self._one = inflate(bits)

        def __getattr__(self, name: str) -> object:
            return getattr(self._one, name)

        def decompress(self, content: bytes, most: int) -> bytes:
            asked.append(most)
            return self._one.decompress(content, most)

    monkeypatch.setattr("zlib.decompressobj", Watched)
    with pytest.raises(DecodeError):
        patched(OLDER, deflated(bytes(1 << 20)))

    assert asked == [len(OLDER) + 1]


def test_chunk_of_a_delta_is_the_one_that_would_have_come() -> None:
    older = OLDER * (CHUNK_BYTES // len(OLDER)) + OLDER
    newer = OLDER * (CHUNK_BYTES // len(OLDER)) + NEWER
    change = difference(older[CHUNK_BYTES:], newer[CHUNK_BYTES:])
    assert change is not None
    delta = ChunkDelta(H(newer), len(newer), 1, change, H(older))

    assert delta.start == CHUNK_BYTES
    assert delta.chunk(older[delta.start :]) == chunk_at(newer, H(newer), 1)
    with pytest.raises(DecodeError):
        replace(delta, size=delta.size + 4).chunk(older[delta.start :])
    with pytest.raises(DecodeError):
        delta.chunk(b"")


def test_delta_is_told_from_a_chunk_by_its_first_byte() -> None:
    delta = ChunkDelta(H(NEWER), len(NEWER), 0, b"x", H(OLDER))

    assert is_delta(CHUNK_DELTA.pack(delta))
    assert not is_delta(CHUNK.pack(split(NEWER)[0]))
    assert not is_delta(b"")
