"""Torn at every byte, flipped at every bit: nothing acknowledged is lost unnoticed."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.durable.journal_frames import (
    HEAD_BYTES,
    PAYLOAD_BYTES_MAX,
    SALT_BYTES,
    DamagedJournal,
    frame,
    head,
    salvage,
    scan,
    unfinished_head,
)
from starling.protocol.errors import LimitError, StorageError

SALT = bytes(range(SALT_BYTES))
BATCHES = [[b"one"], [b"", b"three", b"x" * 300], [b""], [b"last entry"]]


def journal_bytes(
    batches: list[list[bytes]], salt: bytes = SALT
) -> tuple[bytes, list[int]]:
    """A journal and the positions at which its frames end, the head's end first."""
    content = bytearray(head(salt))
    ends = [len(content)]
    for batch in batches:
        content += frame(batch, len(content), salt)
        ends.append(len(content))
    return bytes(content), ends


@given(st.lists(st.lists(st.binary(max_size=64), min_size=1, max_size=4), max_size=8))
def test_scan_of_framed_batches_gives_all_payloads(batches: list[list[bytes]]) -> None:
    content, _ = journal_bytes(batches)

    found = scan(content)

    assert list(found.payloads) == [item for batch in batches for item in batch]
    assert (found.sound_bytes, found.torn_bytes) == (len(content), 0)


def test_scan_torn_at_every_byte_keeps_exactly_the_whole_frames() -> None:
    content, ends = journal_bytes(BATCHES)

    for length in range(HEAD_BYTES, len(content) + 1):
        found = scan(content[:length])

        whole = sum(end <= length for end in ends) - 1
        expected = [item for batch in BATCHES[:whole] for item in batch]
        assert list(found.payloads) == expected, length
        assert found.sound_bytes == ends[whole]
        assert found.torn_bytes == length - ends[whole]


def test_scan_with_null_filled_tail_at_every_byte_keeps_the_whole_frames() -> None:
    content, ends = journal_bytes(BATCHES)

    for length in range(ends[-2], len(content)):
        found = scan(content[:length] + bytes(len(content) - length))

        assert found.sound_bytes == ends[-2], length


def test_scan_with_any_bit_flipped_before_the_last_frame_names_the_offset() -> None:
    content, ends = journal_bytes(BATCHES)

    for bit in range(HEAD_BYTES * 8, ends[-2] * 8):
        spoiled = bytearray(content)
        spoiled[bit // 8] ^= 1 << bit % 8
        start = max(end for end in ends if end <= bit // 8)
        with pytest.raises(StorageError, match=f"damaged at offset {start}:"):
            scan(bytes(spoiled))


@pytest.mark.parametrize("last", [b"last entry", b"", b"ends in zeros" + bytes(9)])
def test_scan_with_any_bit_flipped_in_the_last_frame_is_refused(last: bytes) -> None:
    content, ends = journal_bytes([*BATCHES, [last]])

    for bit in range(ends[-2] * 8, len(content) * 8):
        spoiled = bytearray(content)
        spoiled[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedJournal, match="damaged") as caught:
            scan(bytes(spoiled))
        assert caught.value.offset == ends[-2]


def test_scan_with_noise_in_place_of_the_last_frame_is_refused() -> None:
    content, ends = journal_bytes(BATCHES)
    noise = bytes(range(255, 255 - len(content) + ends[-2], -1))

    with pytest.raises(DamagedJournal):
        scan(content[: ends[-2]] + noise)


def test_salvage_of_a_journal_with_any_frame_damaged_keeps_all_others() -> None:
    content, ends = journal_bytes(BATCHES)

    for number in range(len(BATCHES)):
        spoiled = bytearray(content)
        spoiled[ends[number] + 1] ^= 1
        found = salvage(bytes(spoiled))

        others = BATCHES[:number] + BATCHES[number + 1 :]
        assert list(found.payloads) == [item for batch in others for item in batch]
        assert found.lost_bytes == (ends[number + 1] - ends[number],)


def test_salvage_counts_a_torn_tail_and_a_file_without_head_as_lost() -> None:
    content, ends = journal_bytes(BATCHES)

    torn = len(content) - 1 - ends[-2]
    assert salvage(content[:-1]).lost_bytes == (torn,)
    assert salvage(b"something else").lost_bytes == (14,)
    assert salvage(b"") == salvage(head(SALT))


def test_scan_of_torn_frame_with_a_journal_inside_is_still_a_torn_tail() -> None:
    inner, _ = journal_bytes(BATCHES, salt=b"other sa")
    content, ends = journal_bytes([[b"first"], [inner]])

    found = scan(content[:-1])

    assert found.sound_bytes == ends[1]


@pytest.mark.parametrize(
    "content",
    [b"", b"STARJNL", b"{}" * 20, bytes(40)],
    ids=["empty", "short", "json", "zeros"],
)
def test_scan_of_another_file_is_refused(content: bytes) -> None:
    with pytest.raises(StorageError, match="not a journal"):
        scan(content)


@given(st.binary(max_size=200))
def test_scan_of_arbitrary_bytes_behind_a_head_never_crashes(tail: bytes) -> None:
    with suppress(DamagedJournal):
        found = scan(head(SALT) + tail)

        assert found.sound_bytes + found.torn_bytes == HEAD_BYTES + len(tail)


def test_frame_over_the_limit_is_refused() -> None:
    with pytest.raises(LimitError):
        frame([bytes(PAYLOAD_BYTES_MAX + 1)], HEAD_BYTES, SALT)


def test_unfinished_head_holds_for_every_cut_of_a_head_and_for_zeros() -> None:
    whole = head(SALT)

    assert all(unfinished_head(whole[:length]) for length in range(HEAD_BYTES))
    assert all(unfinished_head(bytes(length)) for length in range(HEAD_BYTES + 1))


@pytest.mark.parametrize(
    "content",
    [head(SALT), head(SALT) + b"x", b"notes", bytes(HEAD_BYTES + 1)],
    ids=["whole", "with-entries", "other-file", "long-zeros"],
)
def test_unfinished_head_is_false_for_what_must_not_be_overwritten(
    content: bytes,
) -> None:
    assert not unfinished_head(content)
