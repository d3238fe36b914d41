"""A batch comes back as it was written, and what is none is refused."""

from dataclasses import replace

import pytest

from starling.agent.privacy.label_entries import (
    BATCH,
    BATCH_MAX,
    DIGEST_BYTES,
    TWINS_MAX,
    DrawnLabel,
    LabelBatch,
    batches_of,
)
from starling.protocol.errors import DecodeError, LimitError

INPUTS = bytes(DIGEST_BYTES)
DRAWN = [
    DrawnLabel(b"a" * DIGEST_BYTES, 0, 3, 9),
    DrawnLabel(b"a" * DIGEST_BYTES, 1, 0, 0),
    DrawnLabel(b"b" * DIGEST_BYTES, 0, 9, 3),
]


def whole() -> LabelBatch:
    (packed,) = batches_of(INPUTS, 10, 2_000_000, DRAWN)
    return BATCH.unpack(packed)


def test_batch_gives_back_what_was_drawn() -> None:
    batch = whole()

    assert batch.drawn() == DRAWN
    assert (batch.inputs, batch.classes, batch.epsilon_micro) == (INPUTS, 10, 2 * 10**6)


def test_columns_are_little_endian_words() -> None:
    assert whole().answers == bytes([9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0])


def test_nothing_drawn_is_one_empty_batch() -> None:
    (packed,) = batches_of(INPUTS, 10, 1, [])

    assert BATCH.unpack(packed).drawn() == []


def test_many_draws_make_several_batches() -> None:
    row = DrawnLabel(b"a" * DIGEST_BYTES, 0, 3, 9)
    packed = batches_of(INPUTS, 10, 1, [row] * (BATCH_MAX + 1))

    assert [len(BATCH.unpack(each).drawn()) for each in packed] == [BATCH_MAX, 1]


WORD = bytes(4)


@pytest.mark.parametrize(
    "change",
    [
        {"records": b"a" * (3 * DIGEST_BYTES - 1)},
        {"records": b"a" * (4 * DIGEST_BYTES)},
        {"twins": 2 * WORD},
        {"labels": b""},
        {"answers": 4 * WORD},
        {"answers": 2 * WORD + bytes([10, 0, 0, 0])},
        {"labels": 2 * WORD + bytes([255, 255, 255, 255])},
        {"twins": 2 * WORD + TWINS_MAX.to_bytes(4, "little")},
        {"classes": 1},
        {"epsilon_micro": 0},
        {"form": 2},
        {"inputs": b""},
    ],
)
def test_batch_of_nonsense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((DecodeError, LimitError)):
        BATCH.pack(replace(whole(), **change))  # type: ignore[arg-type] # that is the point


def test_truncated_batch_is_refused_at_every_byte() -> None:
    packed = BATCH.pack(whole())

    for length in range(len(packed)):
        with pytest.raises(DecodeError):
            BATCH.unpack(packed[:length])
    with pytest.raises(DecodeError):
        BATCH.unpack(packed + b"\0")
