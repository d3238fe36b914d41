"""A journal on a real disk: reopening, locking, full disks and failed syncs."""

import errno
import os
from pathlib import Path

import pytest

from starling.durable.journal import Journal
from starling.durable.journal_frames import HEAD_BYTES, DamagedJournal
from starling.protocol.errors import ConfigError, StorageError


def two_entries(folder: Path) -> tuple[Path, int]:
    """A journal of `a` and `b`, and its size before the second."""
    path = folder / "votes"
    journal, _ = Journal.open(path)
    with journal:
        journal.append(b"a")
        sound = journal.size_bytes
        journal.append(b"b")
    return path, sound


def reread(path: Path) -> list[bytes]:
    journal, payloads = Journal.open(path)
    journal.close()
    return payloads


def test_journal_reopened_gives_payloads_in_order(tmp_path: Path) -> None:
    path = tmp_path / "votes"
    journal, before = Journal.open(path)
    with journal:
        journal.append(b"a")
        journal.append_many([b"b", b"", b"c"])
        journal.append_many([])

    assert before == []
    assert reread(path) == [b"a", b"b", b"", b"c"]


def test_journal_torn_at_every_byte_is_cut_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "votes"
    journal, _ = Journal.open(path)
    with journal:
        journal.append(b"kept")
        sound = journal.size_bytes
        journal.append(b"torn away")
    content = path.read_bytes()

    for length in range(sound, len(content)):
        path.write_bytes(content[:length])
        journal, payloads = Journal.open(path)
        with journal:
            assert payloads == [b"kept"]
            journal.append(b"next")
        torn = length - sound
        said = (
            f"{path}: {torn} bytes of an entry that was never acknowledged were dropped"
        )
        assert caplog.messages == ([said] if torn else [])
        caplog.clear()
        assert reread(path) == [b"kept", b"next"]


def test_journal_cut_off_in_its_head_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "votes"
    Journal.open(path)[0].close()
    content = path.read_bytes()

    for length in range(HEAD_BYTES):
        path.write_bytes(content[:length])
        assert reread(path) == []


def test_journal_damaged_in_the_middle_is_refused_and_left_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "votes"
    journal, _ = Journal.open(path)
    with journal:
        journal.append_many([b"a"])
        journal.append(b"b")
    content = bytearray(path.read_bytes())
    content[HEAD_BYTES + 8] ^= 1
    path.write_bytes(content)

    with pytest.raises(StorageError, match=f"votes: damaged at offset {HEAD_BYTES}"):
        Journal.open(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("strict", [False, True])
def test_journal_with_its_last_entry_flipped_is_refused_and_left_alone(
    tmp_path: Path, strict: bool
) -> None:
    path, sound = two_entries(tmp_path)
    content = path.read_bytes()

    for offset in range(sound, len(content)):
        spoiled = bytearray(content)
        spoiled[offset] ^= 1
        path.write_bytes(spoiled)
        with pytest.raises(DamagedJournal, match=f"votes: damaged at offset {sound}"):
            Journal.open(path, strict=strict)
        assert path.read_bytes() == spoiled


def test_journal_with_a_tail_of_zeros_is_torn_unless_it_is_strict(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, sound = two_entries(tmp_path)
    whole = path.read_bytes()
    nulled = whole[: sound + 9] + bytes(len(whole) - sound - 9)
    path.write_bytes(nulled)

    with pytest.raises(DamagedJournal, match="votes: ends in zeros"):
        Journal.open(path, strict=True)
    assert path.read_bytes() == nulled
    assert reread(path) == [b"a"]
    assert f": {len(whole) - sound} bytes of an entry" in caplog.text
    assert path.stat().st_size == sound


@pytest.mark.parametrize("strict", [False, True])
def test_journal_whose_last_write_was_cut_off_anywhere_opens(
    tmp_path: Path, strict: bool
) -> None:
    path = tmp_path / "votes"
    journal, _ = Journal.open(path)
    journal.append(b"a")
    sound = journal.size_bytes
    journal.append(bytes(40))
    journal.close()
    content = path.read_bytes()

    for end in range(sound, len(content)):
        path.write_bytes(content[:end])
        journal, payloads = Journal.open(path, strict=strict)
        journal.close()
        assert payloads == [b"a"], end
        assert path.stat().st_size == sound


def test_journal_open_twice_is_refused_until_closed(tmp_path: Path) -> None:
    path = tmp_path / "votes"
    journal, _ = Journal.open(path)

    with pytest.raises(ConfigError, match="open in another process"):
        Journal.open(path)
    journal.rewrite([b"x"])
    with pytest.raises(ConfigError, match="open in another process"):
        Journal.open(path)
    journal.close()
    journal.close()
    assert reread(path) == [b"x"]


def test_journal_rewritten_holds_the_new_entries_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "votes"
    journal, _ = Journal.open(path)
    with journal:
        journal.append_many([b"old"] * 100)
        before = journal.size_bytes
        journal.rewrite([b"new", b"newer"])
        journal.append(b"newest")
        assert journal.size_bytes < before

    assert reread(path) == [b"new", b"newer", b"newest"]
    assert list(tmp_path.iterdir()) == [path]


def test_journal_on_full_disk_says_so_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "votes"
    journal, _ = Journal.open(path)
    real_write = os.write

    def full(descriptor: int, content: bytes) -> int:
        real_write(descriptor, content[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    with journal:
        journal.append(b"a")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(StorageError, match="full"):
                journal.append(b"b")
        journal.append(b"c")

    assert reread(path) == [b"a", b"c"]


def test_journal_after_failed_sync_takes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "votes"
    journal, _ = Journal.open(path)

    def failing(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", failing)
            with pytest.raises(StorageError, match="Input"):
                journal.append(b"a")
        with pytest.raises(StorageError, match="earlier sync failed"):
            journal.append(b"b")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_journal_begun_by_root_belongs_to_the_owner_of_its_folder(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state" / "spent"
    path.parent.mkdir()
    os.chown(path.parent, 65_501, 65_502)

    journal, _ = Journal.open(path)
    journal.append(b"entry")
    begun = path.stat()
    journal.rewrite([b"entry"])
    journal.close()

    for found in (begun, path.stat()):
        assert (found.st_uid, found.st_gid) == (65_501, 65_502)
