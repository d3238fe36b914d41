"""A home as the loop's disk: order, and a disk that is full or broken."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from starling.agent.runtime.home_store import HomeStore
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.blob_store import BlobStore
from starling.agent.runtime.storage.proof_store import ProofFolder
from starling.agent.runtime.storage.spool import Spool, SpoolIndex
from starling.agent.step import effects as f
from starling.durable import files
from starling.durable.journal import Journal
from starling.protocol.errors import StorageError
from starling.protocol.ids import Digest, H, Version
from tests.unit.agent.fake_coordinator import PINNED, manifest
from tests.unit.agent.runtime.storage.test_spool import upload

PATIENCE = 10
BLOB = H(b"blob")


class FullDisk(BlobStore):
    """A store on a disk that refuses some writes."""

    def __init__(self, folder: Path, refusals: int, number: int) -> None:
        super().__init__(folder)
        self.refusals = refusals
        self.number = number

    def write(self, digest: Digest, content: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StorageError("refused") from OSError(self.number, "refused")
        super().write(digest, content)


@pytest.fixture
def waits() -> list[str]:
    """Why the agent waited for the disk."""
    return []


@pytest.fixture
def store(tmp_path: Path, waits: list[str]) -> Iterator[HomeStore]:
    """An empty home; who waits for it gives up after a while."""

    def wait(why: str) -> bool:
        waits.append(why)
        return len(waits) < PATIENCE

    home = AgentHome(tmp_path / "home")
    home.begin({})
    journal, _ = Journal.open(home.state / "privacy.journal")
    labels, _ = Journal.open(home.labels_file)
    found = HomeStore(
        home,
        journal,
        labels,
        Spool(home.spool),
        SpoolIndex(home.state / "index.json", pytest.fail),
        ProofFolder(home.proofs),
        BlobStore(home.models),
        wait,
    )
    yield found
    found.close()


def test_full_disk_is_waited_for_and_nothing_is_left_out(
    store: HomeStore, waits: list[str]
) -> None:
    store.blobs = FullDisk(store.home.models, 3, errno.ENOSPC)

    store.put_blob(BLOB, b"blob")
    store.spool(*upload(4))

    assert len(waits) == 3
    assert store.blobs.sound() == {BLOB}
    assert len(list(store.home.spool.iterdir())) == 1


def test_full_disk_that_nobody_waits_for_is_an_error(
    store: HomeStore, waits: list[str]
) -> None:
    store.blobs = FullDisk(store.home.models, 99, errno.ENOSPC)

    with pytest.raises(StorageError):
        store.put_blob(BLOB, b"blob")

    assert len(waits) == PATIENCE


def test_broken_disk_is_not_waited_for(store: HomeStore, waits: list[str]) -> None:
    store.blobs = FullDisk(store.home.models, 1, errno.EIO)

    with pytest.raises(StorageError):
        store.put_blob(BLOB, b"blob")

    assert waits == []


def test_charge_is_in_the_journal_when_the_call_returns(store: HomeStore) -> None:
    store.spend(b"one")
    store.spend(b"two")
    store.journal.close()

    journal, payloads = Journal.open(store.home.state / "privacy.journal")
    journal.close()

    assert payloads == [b"one", b"two"]


def test_progress_and_model_are_where_the_next_start_looks(store: HomeStore) -> None:
    home = store.home

    store.put_progress(PINNED, manifest(3))
    store.put_blob(BLOB, b"blob")
    store.adopt(f.AdoptModel(Version(3), H(b"bundle"), BLOB))
    store.keep_blobs(frozenset())

    assert (home.state / "progress").exists()
    assert '"version": 3' in (home.models / "current.json").read_text()
    assert store.blobs.sound() == frozenset()


def test_own_parameters_wait_for_room_and_are_private(
    store: HomeStore, waits: list[str]
) -> None:
    refusals = [OSError(errno.ENOSPC, "full"), None]
    kept = files.write_temporary

    def refuse_once(path: Path, content: bytes, mode: int = 0o600) -> Path:
        if (refusal := refusals.pop(0)) is not None:
            raise refusal
        return kept(path, content, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_temporary", refuse_once)
        store.keep(store.home.head(H(b"bundle")), b"head")

    file = store.home.head(H(b"bundle"))
    assert len(waits) == 1
    assert file.read_bytes() == b"head"
    assert file.stat().st_mode & 0o777 == 0o600
