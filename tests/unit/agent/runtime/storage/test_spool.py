"""The spool and its index: what a start finds, whatever happened before."""

from dataclasses import replace
from pathlib import Path

import pytest

from starling.agent.runtime.storage.blob_store import BlobStore
from starling.agent.runtime.storage.spool import Spool, SpoolIndex
from starling.agent.runtime.storage.trusted_state_file import (
    StoredTrust,
    read_progress,
    write_progress,
)
from starling.agent.step.effects import SpoolEntry
from starling.protocol.errors import StorageError
from starling.protocol.ids import H, Version
from starling.protocol.wire.chunks import CHUNK, CHUNK_BYTES
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import (
    CONTRIBUTION,
    UPLOAD,
    Contribution,
    Upload,
)
from tests.unit.agent.fake_coordinator import (
    BOARD,
    CHAIN,
    PINNED,
    TASK_NUMBER,
    lease,
    manifest,
)


def upload(base: int, blob: bytes = b"blob") -> tuple[SpoolEntry, bytes]:
    body = Contribution(TASK_NUMBER, Version(base), 0, 16, 1, 7, H(blob), H(b"c"))
    update = sign(
        BOARD, CHAIN, MessageKind.UPDATE, (3 << 32) | base + 1, CONTRIBUTION.pack(body)
    )
    content = UPLOAD.pack(Upload(update, ENVELOPE.unpack(lease(base)), blob))
    entry = SpoolEntry(
        TASK_NUMBER, Version(base), update.identity(CHAIN), H(content), len(content), 5
    )
    return entry, content


def test_spool_gives_back_what_was_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for base in (12, 3):
        spool.write(*upload(base))

    found = Spool(tmp_path).load(CHAIN, pytest.fail)

    assert [item.entry for item in found] == [upload(3)[0], upload(12)[0]]
    assert {item.boot for item in found} == {3}


def test_chunks_of_a_spooled_upload_make_the_upload(tmp_path: Path) -> None:
    entry, content = upload(1, bytes(range(256)) * 600)
    spool = Spool(tmp_path)
    spool.write(entry, content)

    count = -(-len(content) // CHUNK_BYTES)
    chunks = [CHUNK.unpack(spool.chunk(entry, index)) for index in range(count)]

    assert count == 3
    assert b"".join(chunk.data for chunk in chunks) == content


def test_second_update_for_a_base_version_has_no_place(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(*upload(1, b"one"))

    with pytest.raises(StorageError, match="same base version"):
        spool.write(*upload(1, b"two"))


def test_upload_with_another_lease_keeps_its_update(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    entry, content = upload(1)
    spool.write(entry, content)
    other = sign(BOARD, CHAIN, MessageKind.LEASE, 9, b"another lease")

    renewed = spool.renew(entry, other)

    (found,) = spool.load(CHAIN, pytest.fail)
    sent = UPLOAD.unpack(CHUNK.unpack(spool.chunk(renewed, 0)).data)
    assert found.entry == renewed
    assert renewed.update == entry.update
    assert (sent.update, sent.lease) == (UPLOAD.unpack(content).update, other)


def test_upload_that_is_damaged_gets_no_other_lease(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    entry, content = upload(1)
    spool.write(entry, content)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"damaged")

    with pytest.raises(StorageError, match="damaged"):
        spool.renew(entry, UPLOAD.unpack(content).lease)


def test_same_update_may_be_written_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(*upload(1))
    spool.write(*upload(1))

    assert len(spool.load(CHAIN, pytest.fail)) == 1


@pytest.mark.parametrize("place", [0, 40, 150, -1], ids=lambda place: f"byte {place}")
def test_damaged_file_is_set_aside_and_named(tmp_path: Path, place: int) -> None:
    spool = Spool(tmp_path)
    spool.write(*upload(1))
    path = tmp_path / "0-1.upload"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    said: list[str] = []

    found = spool.load(CHAIN, said.append)

    assert found == []
    assert "0-1.upload" in said[0]
    assert (tmp_path / "0-1.upload.damaged").exists()


def test_deleted_upload_is_gone_and_may_be_deleted_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    entry, content = upload(1)
    spool.write(entry, content)

    spool.delete(entry)
    spool.delete(entry)

    assert spool.load(CHAIN, pytest.fail) == []


def test_index_counts_starts(tmp_path: Path) -> None:
    counts = []
    for _ in range(3):
        index = SpoolIndex(tmp_path / "index.json", pytest.fail)
        counts.append(index.next_boot(0))
        index.close()

    assert counts == [1, 2, 3]


def test_index_counts_on_from_what_uploads_prove(tmp_path: Path) -> None:
    assert SpoolIndex(tmp_path / "index.json", pytest.fail).next_boot(41) == 42


def test_damaged_index_leaps_ahead(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    index = SpoolIndex(path, pytest.fail)
    index.next_boot(0)
    index.mark_accepted(upload(1)[0])
    index.close()
    path.write_bytes(b"torn")
    said: list[str] = []

    boot = SpoolIndex(path, said.append).next_boot(0)

    assert boot > 1 << 15
    assert said


def test_index_keeps_receipts_and_counts_outcomes(tmp_path: Path) -> None:
    index = SpoolIndex(tmp_path / "index.json", pytest.fail)
    first, second = upload(1)[0], upload(2)[0]
    index.mark_accepted(first)
    index.mark_accepted(second)
    index.mark_gone(first, "final")
    index.close()

    again = SpoolIndex(tmp_path / "index.json", pytest.fail)

    assert not again.is_accepted(first)
    assert again.is_accepted(second)
    assert again.outcomes() == {"final": 1}


def test_blob_that_changed_on_disk_is_not_found(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    for content in (b"one", b"two"):
        store.write(H(content), content)
    store.path(H(b"two")).write_bytes(b"too")

    assert store.sound() == {H(b"one")}
    assert not store.path(H(b"two")).exists()


@pytest.mark.parametrize("content", [None, b"", b"torn"], ids=["none", "empty", "torn"])
def test_progress_that_is_lost_starts_from_the_genesis(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "progress"
    if content is not None:
        path.write_bytes(content)

    assert read_progress(path, PINNED) == StoredTrust(PINNED, b"")


def test_progress_below_what_a_new_admission_pins_is_led_to_it(tmp_path: Path) -> None:
    path, pinned = tmp_path / "progress", replace(PINNED, height=7)
    write_progress(path, StoredTrust(PINNED, manifest(3)))
    assert read_progress(path, pinned) == StoredTrust(pinned, manifest(3))
    ahead = StoredTrust(replace(PINNED, height=8), manifest(3))
    write_progress(path, ahead)
    assert read_progress(path, pinned) == ahead


def test_progress_survives_being_written(tmp_path: Path) -> None:
    progress = StoredTrust(PINNED, manifest(3))
    write_progress(tmp_path / "progress", progress)

    assert read_progress(tmp_path / "progress", PINNED) == progress


def test_index_knows_how_long_ago_an_update_left_and_counts_it_as_no_outcome(
    tmp_path: Path,
) -> None:
    index = SpoolIndex(tmp_path / "index.json", print)
    assert index.since_released_s(100.0) is None

    index.note_released(100.0)
    index.close()
    again = SpoolIndex(tmp_path / "index.json", print)

    assert again.since_released_s(160.0) == 60.0
    # A clock that went back.
    assert again.since_released_s(50.0) == 0.0
    assert (again.outcomes(), again.let_go()) == ({}, 0)
