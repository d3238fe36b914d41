"""The hands: order, a full disk, and a broker that is away."""

import errno
import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from starling.agent.runtime.effect_executor import EffectExecutor, TrainerSetup
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.blob_store import BlobStore
from starling.agent.runtime.storage.proof_store import ProofFolder
from starling.agent.runtime.storage.spool import Spool, SpoolIndex
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.trainer.client import TrainerProcess, TrainerReported
from starling.agent.training.trainer_messages import TrainerLimits, TrainerReportKind
from starling.broker.link_events import LinkSettings
from starling.broker.runtime.mqtt_link import MqttLink
from starling.durable import files
from starling.durable.journal import Journal
from starling.protocol.errors import StorageError
from starling.protocol.ids import Digest, H, Version
from tests.unit.agent.fake_coordinator import PINNED, manifest
from tests.unit.agent.runtime.storage.test_spool import upload


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


class Bench:
    """Hands over real files, with what they posted and how often they waited."""

    def __init__(self, home: AgentHome) -> None:
        self.posted: list[e.Event] = []
        self.waits: list[str] = []
        self.patience = 10
        self.journal, _ = Journal.open(home.state / "privacy.journal")
        self.hands = EffectExecutor(
            home,
            TrainerSetup(str(home.path), "", TrainerLimits(1, 8, 0, 0)),
            self.journal,
            Spool(home.spool),
            SpoolIndex(home.state / "index.json", pytest.fail),
            ProofFolder(home.proofs),
            BlobStore(home.models),
            TrainerProcess(lambda spoke: None, home.state / "trainer.log"),
            MqttLink(
                LinkSettings("127.0.0.1", 1, "x"), lambda event: None, lambda: 0.5
            ),
            "up",
            self.posted.append,
            self.wait,
        )

    def wait(self, why: str) -> bool:
        self.waits.append(why)
        return len(self.waits) < self.patience


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A home with its hands."""
    home = AgentHome(tmp_path / "home")
    home.begin({})
    found = Bench(home)
    yield found
    found.journal.close()
    found.hands.index.close()
    found.hands.link.stop(0.0)


BLOB = f.StoreBlob(H(b"blob"), b"blob")
ENTRY, CONTENT = upload(4)


def test_full_disk_is_waited_for_and_nothing_is_left_out(bench: Bench) -> None:
    home = bench.hands.home
    bench.hands.blobs = FullDisk(home.models, 3, errno.ENOSPC)

    bench.hands.carry_out((BLOB, f.SpoolUpload(ENTRY, CONTENT)))

    assert len(bench.waits) == 3
    assert bench.hands.blobs.sound() == {H(b"blob")}
    assert len(list(home.spool.iterdir())) == 1


def test_nothing_after_a_refused_write_happens(bench: Bench) -> None:
    home = bench.hands.home
    bench.hands.blobs = FullDisk(home.models, 99, errno.ENOSPC)

    with pytest.raises(StorageError):
        bench.hands.carry_out((BLOB, f.SpoolUpload(ENTRY, CONTENT)))

    assert len(bench.waits) == bench.patience
    assert list(home.spool.iterdir()) == []


def test_broken_disk_is_not_waited_for(bench: Bench) -> None:
    bench.hands.blobs = FullDisk(bench.hands.home.models, 1, errno.EIO)

    with pytest.raises(StorageError):
        bench.hands.carry_out((BLOB,))

    assert bench.waits == []


def test_chunk_without_a_connection_is_reported_as_not_taken(bench: Bench) -> None:
    bench.hands.carry_out((f.SpoolUpload(ENTRY, CONTENT), f.PublishSpooled(ENTRY, 0)))

    assert bench.posted == [e.ChunkDelivered(ENTRY.update, 0, taken=False)]
    assert bench.hands.in_flight == {}


def test_message_without_a_connection_is_dropped(bench: Bench) -> None:
    bench.hands.carry_out((f.PublishBestEffort("say", b"x"),))

    assert bench.posted == []


def test_charge_is_in_the_journal_when_the_hands_return(bench: Bench) -> None:
    bench.hands.carry_out((f.Spend(b"one"), f.Spend(b"two")))
    bench.journal.close()

    journal, payloads = Journal.open(bench.hands.home.state / "privacy.journal")
    journal.close()

    assert payloads == [b"one", b"two"]


def test_progress_and_model_are_where_the_next_start_looks(bench: Bench) -> None:
    home = bench.hands.home
    adopted = f.AdoptModel(Version(3), H(b"bundle"), H(b"blob"))

    bench.hands.carry_out((f.PersistTrust(PINNED, manifest(3)), BLOB, adopted))
    bench.hands.carry_out((f.KeepBlobs(frozenset()),))

    assert (home.state / "progress").exists()
    assert '"version": 3' in (home.models / "current.json").read_text()
    assert bench.hands.blobs.sound() == frozenset()


def test_trainer_finds_the_files_of_a_home_with_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = AgentHome(Path("home"))
    home.begin({})
    bench = Bench(home)
    spoken: queue.SimpleQueue[TrainerReported] = queue.SimpleQueue()
    bench.hands.trainer = TrainerProcess(spoken.put, home.state / "trainer.log")
    bench.hands.blobs.write(H(b"bundle"), b"no bundle")

    bench.hands.carry_out((f.LoadBundle(H(b"bundle")),))
    report = spoken.get(timeout=180.0).report
    bench.hands.trainer.stop()

    assert report.kind == TrainerReportKind.FAILED_MODEL
    assert "home/models" not in report.detail
    bench.journal.close()
    bench.hands.index.close()
    bench.hands.link.stop(0.0)


def test_own_parameters_wait_for_room_and_are_private(bench: Bench) -> None:
    refusals = [OSError(errno.ENOSPC, "full"), None]
    kept = files.write_temporary

    def refuse_once(path: Path, content: bytes, mode: int = 0o600) -> Path:
        if (refusal := refusals.pop(0)) is not None:
            raise refusal
        return kept(path, content, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_temporary", refuse_once)
        bench.hands.keep_head(H(b"bundle"), b"head")

    file = bench.hands.home.head(H(b"bundle"))
    assert len(bench.waits) == 1
    assert file.read_bytes() == b"head"
    assert file.stat().st_mode & 0o777 == 0o600
