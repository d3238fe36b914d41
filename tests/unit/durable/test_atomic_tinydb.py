"""The TinyDB storage: round trips, damage, backups and limits."""

from pathlib import Path

import pytest
from tinydb import TinyDB, where

from starling.durable.atomic_tinydb import (
    DOCUMENT_BYTES_MAX,
    AtomicStorage,
    StorageCondition,
)
from starling.protocol.errors import LimitError


def write_twice(path: Path) -> None:
    with TinyDB(path, storage=AtomicStorage) as document:
        document.insert({"name": "first"})
        document.insert({"name": "second"})


def test_document_reopened_answers_queries(tmp_path: Path) -> None:
    write_twice(tmp_path / "d.json")

    with TinyDB(tmp_path / "d.json", storage=AtomicStorage) as document:
        assert len(document) == 2
        assert document.search(where("name") == "second")
    assert AtomicStorage(tmp_path / "d.json").condition is StorageCondition.SOUND


def test_document_that_does_not_exist_is_new_and_empty(tmp_path: Path) -> None:
    storage = AtomicStorage(tmp_path / "d.json")

    assert storage.condition is StorageCondition.NEW
    assert storage.read() is None


def test_document_read_gives_a_copy_that_does_not_change_what_is_stored(
    tmp_path: Path,
) -> None:
    storage = AtomicStorage(tmp_path / "d.json")
    storage.write({"_default": {"1": {"n": 1}}})

    first = storage.read()
    assert first is not None
    first["_default"]["1"]["n"] = 2

    assert storage.read() == {"_default": {"1": {"n": 1}}}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-7],
        lambda content: bytes(len(content)),
        lambda content: content.replace(b"second", b"secund"),
        lambda content: b"[" * 100_000,
        lambda content: b"\xff" * (DOCUMENT_BYTES_MAX + 1),
    ],
    ids=["empty", "torn", "null-filled", "changed", "nested", "too-long"],
)
def test_document_damaged_is_restored_from_its_backup(
    tmp_path: Path, damage: object
) -> None:
    path = tmp_path / "d.json"
    write_twice(path)
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    reports: list[str] = []

    storage = AtomicStorage(path, reports.append)

    assert storage.condition is StorageCondition.RESTORED
    assert storage.read() == {"_default": {"1": {"name": "first"}}}
    assert reports == [f"{path}: damaged or missing; restored from its backup"]


def test_document_restored_keeps_its_backup_through_the_next_write(
    tmp_path: Path,
) -> None:
    path = tmp_path / "d.json"
    write_twice(path)
    path.write_bytes(b"torn")
    backup = tmp_path / "d.json.bak"
    before = backup.read_bytes()

    storage = AtomicStorage(path)
    storage.write({"_default": {}})

    assert backup.read_bytes() == before
    assert (tmp_path / "d.json.damaged").read_bytes() == b"torn"
    assert AtomicStorage(path).condition is StorageCondition.SOUND


def test_document_with_damaged_backup_is_lost_and_can_be_rebuilt(
    tmp_path: Path,
) -> None:
    path = tmp_path / "d.json"
    write_twice(path)
    path.write_bytes(b"torn")
    (tmp_path / "d.json.bak").write_bytes(b"torn")
    reports: list[str] = []

    storage = AtomicStorage(path, reports.append)

    assert storage.condition is StorageCondition.LOST
    assert storage.read() is None
    assert reports == [f"{path}: damaged, and so is its backup; it starts empty"]
    storage.write({"_default": {}})
    assert AtomicStorage(path).condition is StorageCondition.SOUND


def test_document_over_the_limit_is_refused_and_the_last_one_counts(
    tmp_path: Path,
) -> None:
    storage = AtomicStorage(tmp_path / "d.json")
    storage.write({"t": {"1": {}}})

    with pytest.raises(LimitError):
        storage.write({"t": {"1": {"text": "x" * DOCUMENT_BYTES_MAX}}})

    assert storage.read() == {"t": {"1": {}}}
