"""Long blobs are written in slices; what reads them waits, all else goes on."""

from pathlib import Path

import pytest

from starling.coordinator.loop.storage import blob_writer
from starling.coordinator.loop.storage.blob_writer import PendingBlobWrites
from starling.coordinator.runtime.command_inbox import CommandInbox, drop_blob
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.step.effects import (
    Effect,
    ExamineBundle,
    FindMissingBlobs,
    LogLine,
    StorePeerBlob,
)
from starling.protocol.ids import H, TaskId
from tests.unit.coordinator.fixtures.small_chain import SmallChain

LONG = bytes(range(100))
WHOLE = StorePeerBlob(H(LONG), LONG)
EXAMINE = ExamineBundle(H(LONG))
SAID = LogLine("said")


@pytest.fixture
def store() -> SqliteStore:
    return SqliteStore.in_memory(SmallChain().genesis)


@pytest.fixture
def writes(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> PendingBlobWrites:
    monkeypatch.setattr(blob_writer, "SLICE_BYTES", 30)
    monkeypatch.setattr(blob_writer, "LONG_BYTES", 50)
    return PendingBlobWrites(store)


def turn(
    writes: PendingBlobWrites, *effects: Effect
) -> tuple[list[Effect], list[Effect]]:
    """A turn of the loop: what is committed, and what is carried out then."""
    return writes.take(effects), writes.due(effects)


def test_short_whole_is_left_to_the_commit(writes: PendingBlobWrites) -> None:
    short = StorePeerBlob(H(b"short"), b"short")
    assert turn(writes, short, EXAMINE) == ([short, EXAMINE], [short, EXAMINE])
    assert not writes.pending


def test_long_whole_is_written_in_slices_and_then_read(
    store: SqliteStore, writes: PendingBlobWrites
) -> None:
    committed, done = turn(writes, WHOLE, EXAMINE, SAID)
    assert committed == [EXAMINE, SAID]
    assert done == [WHOLE, SAID]
    for _ in range(2):
        assert writes.pending
        assert store.blob(WHOLE.digest) is None
        assert turn(writes, SAID) == ([SAID], [SAID])
    assert turn(writes, SAID) == ([SAID], [EXAMINE, SAID])
    assert store.blob(WHOLE.digest) == LONG
    assert turn(writes) == ([], [])


def test_what_vouches_for_wholes_waits_for_all_of_them(
    store: SqliteStore, writes: PendingBlobWrites
) -> None:
    other = LONG[::-1]
    secure = FindMissingBlobs(TaskId(0), (H(LONG), H(other)))
    turn(writes, WHOLE, StorePeerBlob(H(other), other), secure)
    done: list[Effect] = []
    while writes.pending:
        assert secure not in done
        done += turn(writes)[1]
    assert done == [secure]
    assert store.has_blob(H(LONG))
    assert store.has_blob(H(other))


def test_whole_that_is_there_is_not_written_again(
    store: SqliteStore, writes: PendingBlobWrites
) -> None:
    with store.transaction():
        store.put_blob(LONG)
    assert turn(writes, WHOLE, EXAMINE) == ([EXAMINE], [WHOLE, EXAMINE])


def test_unfinished_whole_is_forgotten_at_the_next_start(
    store: SqliteStore, writes: PendingBlobWrites
) -> None:
    turn(writes, WHOLE)
    again = PendingBlobWrites(store)
    assert store.blob(WHOLE.digest) is None
    turn(again, WHOLE)
    while again.pending:
        turn(again)
    assert store.blob(WHOLE.digest) == LONG


def test_dropped_blob_leaves_the_inbox_once_it_is_durable(
    store: SqliteStore, writes: PendingBlobWrites, tmp_path: Path
) -> None:
    inbox = CommandInbox(tmp_path, lambda: 0.0)
    drop_blob(tmp_path, LONG)
    drop_blob(tmp_path, b"short")
    assert inbox.fresh(writes.keep) == []
    assert store.blob(H(b"short")) == b"short"
    while writes.pending:
        assert len(list(tmp_path.iterdir())) == 1
        assert inbox.fresh(writes.keep) == []
        turn(writes)
    assert store.blob(H(LONG)) == LONG
    assert not list(tmp_path.iterdir())
    # The same again is taken again.
    drop_blob(tmp_path, LONG)
    inbox.fresh(writes.keep)
    turn(writes)
    assert not list(tmp_path.iterdir())
