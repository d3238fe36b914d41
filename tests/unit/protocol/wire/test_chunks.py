"""Wholes cut up, put together in any order, and refused when they are not whole."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starling.protocol.errors import DecodeError, LimitError, Reason
from starling.protocol.ids import H
from starling.protocol.wire.chunks import (
    CHUNK,
    CHUNK_BYTES,
    WHOLE_BYTES_MAX,
    Chunk,
    ChunkAssembly,
    chunk_at,
    chunk_count,
    split,
)

SIZES = [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]
WHOLE = bytes(range(256)) * 600


@pytest.mark.parametrize("size", SIZES)
def test_whole_of_any_size_comes_together(size: int) -> None:
    whole = (WHOLE * 2)[:size]
    assembly = ChunkAssembly.begin(H(whole), size, size)

    for chunk in split(whole):
        assembly = assembly.add(CHUNK.unpack(CHUNK.pack(chunk)))

    assert assembly.whole() == whole
    assert assembly.missing == ()
    assert len(split(whole)) == chunk_count(size)


@settings(max_examples=20)
@given(st.permutations(range(5)), st.lists(st.integers(0, 4), max_size=4))
def test_chunks_in_any_order_and_repeated_come_together(
    order: list[int], repeated: list[int]
) -> None:
    whole = (WHOLE * 3)[: 4 * CHUNK_BYTES + 5]
    chunks = split(whole)
    assembly = ChunkAssembly.begin(H(whole), len(whole), len(whole))

    for index in [*repeated, *order, *repeated]:
        assembly = assembly.add(chunks[index])

    assert assembly.whole() == whole


def test_assembly_names_what_is_missing() -> None:
    chunks = split(WHOLE)
    assembly = ChunkAssembly.begin(H(WHOLE), len(WHOLE), len(WHOLE)).add(chunks[1])

    assert assembly.missing == (0, 2)
    with pytest.raises(DecodeError) as caught:
        assembly.whole()
    assert caught.value.reason is Reason.INCOMPLETE


def test_assembly_is_not_changed_by_adding() -> None:
    empty = ChunkAssembly.begin(H(WHOLE), len(WHOLE), len(WHOLE))

    empty.add(split(WHOLE)[0])

    assert empty.missing == (0, 1, 2)


def test_assembly_over_the_limit_refuses_before_it_keeps_anything() -> None:
    with pytest.raises(LimitError, match="allowed"):
        ChunkAssembly.begin(H(b""), WHOLE_BYTES_MAX, 1000)


def test_assembly_of_other_bytes_refuses() -> None:
    first, *rest = split(WHOLE)
    assembly = ChunkAssembly.begin(H(WHOLE), len(WHOLE), len(WHOLE))

    for chunk in (replace(first, data=bytes(CHUNK_BYTES)), *rest):
        assembly = assembly.add(chunk)

    with pytest.raises(DecodeError) as caught:
        assembly.whole()
    assert caught.value.reason is Reason.MALFORMED


@given(st.permutations(range(5)))
def test_assembly_is_hashed_as_pieces_come_in_any_order(order: list[int]) -> None:
    whole = bytes(range(256)) * (CHUNK_BYTES // 64)
    chunks = split(whole + b"rest")
    assembly = ChunkAssembly.begin(chunks[0].digest, chunks[0].size, chunks[0].size)
    kept = []
    for index in order:
        kept.append(assembly)
        assembly = assembly.add(chunks[index])

    assert assembly.hashed == len(chunks) == 5
    assert assembly.whole() == whole + b"rest"
    # What was given out before is as it was.
    assert H(b"") == kept[0].running.digest()
    assert kept[-1].add(chunks[order[-1]]).whole() == whole + b"rest"


@pytest.mark.parametrize(
    "foreign",
    [
        chunk_at(WHOLE, H(b"another"), 0),
        replace(split(WHOLE)[0], size=len(WHOLE) + 1),
    ],
    ids=["digest", "size"],
)
def test_chunk_of_another_whole_refuses(foreign: Chunk) -> None:
    with pytest.raises(DecodeError, match="another whole"):
        ChunkAssembly.begin(H(WHOLE), len(WHOLE), len(WHOLE)).add(foreign)


@pytest.mark.parametrize(
    ("size", "index", "length"),
    [
        (10, 0, 9),
        (10, 0, 11),
        (10, 1, 10),
        (CHUNK_BYTES, 1, 1),
        (CHUNK_BYTES + 1, 0, 1),
        (CHUNK_BYTES + 1, 1, CHUNK_BYTES),
        (CHUNK_BYTES + 1, 1, 0),
        (1, 4096, 1),
    ],
)
def test_chunk_that_does_not_fit_its_whole_refuses(
    size: int, index: int, length: int
) -> None:
    with pytest.raises(DecodeError, match="does not fit"):
        Chunk(H(b"x"), size, index, bytes(length))
