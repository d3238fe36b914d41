"""The trainer's subprocess: which reports count, and how long it may take."""

import logging
import queue
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from starling.agent.runtime.home_store import HomeStore
from starling.agent.runtime.process_trainer import ProcessTrainer, TrainerSetup
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.blob_store import BlobStore
from starling.agent.runtime.storage.proof_store import ProofFolder
from starling.agent.runtime.storage.spool import Spool, SpoolIndex
from starling.agent.step import events as e
from starling.agent.step.effects import StartTraining
from starling.agent.trainer.client import TrainerProcess, TrainerReported
from starling.agent.training.trainer_messages import (
    DataFacts,
    TrainerLimits,
    TrainerReport,
    TrainerReportKind,
)
from starling.durable.journal import Journal
from starling.protocol.ids import H
from starling.protocol.learning.local_optimiser import PersonalPolicy
from tests.contract.trainer.test_engines import order

BUNDLE = H(b"bundle")
SILENT = ("/bin/sh", "-c", "read nothing")
TIMEOUT_S = 60.0


class Bench:
    """A trainer with a home, and what it posted and was told."""

    def __init__(self, home: AgentHome, command: tuple[str, ...] | None) -> None:
        self.posted: list[e.Event] = []
        self.reports: queue.SimpleQueue[TrainerReported] = queue.SimpleQueue()
        journal, _ = Journal.open(home.state / "privacy.journal")
        labels, _ = Journal.open(home.labels_file)
        self.store = HomeStore(
            home,
            journal,
            labels,
            Spool(home.spool),
            SpoolIndex(home.state / "index.json", pytest.fail),
            ProofFolder(home.proofs),
            BlobStore(home.models),
        )
        log = home.state / "trainer.log"
        process = (
            TrainerProcess(self.reports.put, log)
            if command is None
            else TrainerProcess(self.reports.put, log, command)
        )
        setup = TrainerSetup(
            str(home.path), "", TrainerLimits(1, 8, 0, 0), False, TIMEOUT_S, 1.0
        )
        self.trainer = ProcessTrainer(process, self.store, setup, self.posted.append)

    def close(self) -> None:
        self.trainer.close()
        self.store.close()


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Bench]:
    """A trainer that never answers."""
    home = AgentHome(tmp_path / "home")
    home.begin({})
    found = Bench(home, SILENT)
    yield found
    found.close()


def test_trainer_finds_the_files_of_a_home_with_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = AgentHome(Path("home"))
    home.begin({})
    bench = Bench(home, None)
    bench.store.put_blob(BUNDLE, b"no bundle")

    bench.trainer.load(BUNDLE)
    bench.trainer.reported(bench.reports.get(timeout=180.0))
    bench.close()

    (failed,) = bench.posted
    assert isinstance(failed, e.LoadFailed)
    assert failed.stage is e.FailureStage.MODEL
    assert "home/models" not in failed.detail


def test_job_that_takes_too_long_is_ended_and_has_failed(silent: Bench) -> None:
    silent.trainer.load(BUNDLE)
    silent.trainer.keep_time(10.0, None)
    assert silent.trainer.due_s == 10.0 + TIMEOUT_S
    silent.trainer.keep_time(10.0 + TIMEOUT_S - 1.0, None)
    assert silent.posted == []

    silent.trainer.keep_time(10.0 + TIMEOUT_S, None)

    stage = e.FailureStage.TRAINING
    assert silent.posted == [e.LoadFailed(BUNDLE, stage, "stopped after 60 s")]


def test_job_after_one_that_took_too_long_has_its_whole_time(silent: Bench) -> None:
    silent.trainer.load(BUNDLE)
    silent.trainer.keep_time(10.0, None)
    silent.trainer.keep_time(10.0 + TIMEOUT_S, None)
    (failed,) = silent.posted

    silent.trainer.load(BUNDLE)
    silent.trainer.keep_time(11.0 + TIMEOUT_S, None)

    assert silent.posted == [failed]
    assert silent.trainer.due_s == 11.0 + 2 * TIMEOUT_S


def test_next_job_ends_the_wait_to_release_the_trainer(tmp_path: Path) -> None:
    home = AgentHome(tmp_path / "home")
    home.begin({})
    bench = Bench(home, ("/bin/false",))
    bench.trainer.load(BUNDLE)
    bench.trainer.reported(bench.reports.get(timeout=180.0))
    assert bench.trainer.due_s < float("inf")

    bench.trainer.load(BUNDLE)

    assert bench.trainer.due_s == float("inf")
    bench.close()


def test_last_words_of_a_stopped_trainer_count_no_more(silent: Bench) -> None:
    silent.trainer.load(BUNDLE)
    silent.trainer.stop("another version came")

    silent.trainer.reported(silent.reports.get(timeout=180.0))

    assert silent.posted == []


def test_data_are_read_once_for_a_bundle_and_again_when_they_change(
    silent: Bench,
) -> None:
    silent.trainer.keep_time(1.0, BUNDLE)
    silent.trainer.keep_time(2.0, BUNDLE)
    assert silent.trainer.due_s == 2.0 + TIMEOUT_S
    silent.trainer.keep_time(2.0 + TIMEOUT_S, BUNDLE)
    silent.trainer.keep_time(3.0 + TIMEOUT_S, BUNDLE)
    silent.trainer.keep_time(4.0 + TIMEOUT_S, BUNDLE)
    assert silent.trainer.due_s == float("inf")

    silent.trainer.data_changed()
    silent.trainer.keep_time(5.0 + TIMEOUT_S, BUNDLE)
    silent.trainer.keep_time(6.0 + TIMEOUT_S, BUNDLE)

    assert silent.trainer.due_s == 6.0 + 2 * TIMEOUT_S
    assert silent.posted == []


RESULT, COUNTED = TrainerReportKind.RESULT, TrainerReportKind.COUNTED
FAILED = TrainerReportKind.FAILED_TRAINING
SPEAKING = (
    sys.executable,
    "-c",
    "import sys\n"
    "from starling.agent.training.trainer_messages import *\n"
    "import struct\n"
    "def read():\n"
    "    head = sys.stdin.buffer.read(4)\n"
    "    return sys.stdin.buffer.read(*struct.unpack('<I', head)) if head else b''\n"
    "while frame := read():\n"
    "    job = JOB.unpack(frame)\n"
    "    kind, head = TrainerReportKind.RESULT, b''\n"
    "    if job.kind == TrainerJobKind.PERSONALISE:\n"
    "        kind, head = TrainerReportKind.PERSONALISED, job.personal_path.encode()\n"
    "    packed = REPORT.pack(TrainerReport(kind, '', b'u', None, head))\n"
    "    sys.stdout.buffer.write(struct.pack('<I', len(packed)) + packed)\n"
    "    sys.stdout.buffer.flush()\n",
)
"""A trainer that answers at once; its own model is the path that it is to read."""


def training(epochs: int, *, empty: bool = False) -> StartTraining:
    wanted = replace(order(), bundle=BUNDLE, personal=PersonalPolicy(epochs))
    return StartTraining(wanted, empty)


@pytest.fixture
def speaking(tmp_path: Path) -> Iterator[Bench]:
    home = AgentHome(tmp_path / "home")
    home.begin({})
    found = Bench(home, SPEAKING)
    # The data were read for their owner before.
    found.trainer._to_count = False
    yield found
    found.close()


def heard(bench: Bench) -> None:
    bench.trainer.reported(bench.reports.get(timeout=180.0))


def test_own_model_is_trained_once_after_an_update_and_kept(speaking: Bench) -> None:
    file = speaking.store.home.personal(BUNDLE)
    speaking.trainer.start(training(1))
    heard(speaking)
    assert [type(each) for each in speaking.posted] == [e.TrainingFinished]

    heard(speaking)
    speaking.trainer.keep_time(2.0, BUNDLE)

    assert file.read_bytes() == str(file.absolute()).encode()
    assert file.stat().st_mode & 0o777 == 0o600
    assert not speaking.trainer._process.busy
    # The trainer was let go after it: its end is reported, and counts no more.
    heard(speaking)
    assert len(speaking.posted) == 1


@pytest.mark.parametrize(
    "asked", [training(0), training(1, empty=True)], ids=["no such task", "no data"]
)
def test_own_model_is_not_trained_where_there_is_none(
    speaking: Bench, asked: StartTraining
) -> None:
    speaking.trainer.start(asked)
    heard(speaking)

    speaking.trainer.keep_time(1.0, BUNDLE)

    assert speaking.reports.empty()
    assert not speaking.store.home.personal(BUNDLE).exists()


def test_training_ends_the_own_model_s(silent: Bench) -> None:
    silent.trainer._personalise(training(1))
    silent.trainer.keep_time(2.0, BUNDLE)
    assert silent.trainer.due_s == 2.0 + TIMEOUT_S

    silent.trainer.start(training(1))
    silent.trainer.keep_time(3.0, None)

    assert silent.trainer.due_s == 3.0 + TIMEOUT_S
    assert silent.posted == []


def test_own_model_that_takes_too_long_is_its_owner_s_matter_alone(
    silent: Bench,
) -> None:
    silent.trainer._personalise(training(1))
    silent.trainer.keep_time(2.0, BUNDLE)

    silent.trainer.keep_time(2.0 + TIMEOUT_S, BUNDLE)

    assert silent.posted == []
    assert not silent.store.home.personal(BUNDLE).exists()


SOUND = DataFacts(16, 0, 0, ())


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (
            TrainerReport(RESULT, "no data: data: cannot be read", b"u"),
            "cannot be read",
        ),
        (
            TrainerReport(RESULT, "", b"u", DataFacts(0, 9, 0, ("a: odd",))),
            "no record can be used, 9 cannot; a: odd",
        ),
        (
            TrainerReport(FAILED, "out of memory; the limit is 64 MiB"),
            "not counted: out",
        ),
    ],
    ids=["gone", "all unusable", "larger than memory"],
)
def test_data_that_teach_nothing_are_a_warning_and_a_fault_until_they_are_mended(
    silent: Bench, caplog: pytest.LogCaptureFixture, report: TrainerReport, said: str
) -> None:
    trainer = silent.trainer

    if report.kind == FAILED:
        trainer._counted(report)
    else:
        trainer._trained(BUNDLE, report)
    assert said in trainer.data_fault
    if report.found is None:
        assert said in caplog.records[-1].getMessage()
        assert caplog.records[-1].levelno == logging.WARNING

    trainer._counted(TrainerReport(COUNTED, "", b"", SOUND))
    assert trainer.data_fault == ""


def test_data_set_without_usable_records_is_counted_with_a_warning(
    silent: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    silent.trainer._counted(TrainerReport(COUNTED, "", b"", DataFacts(0, 2, 0, ())))

    assert silent.trainer.data_fault == "no record can be used, 2 cannot"
    assert caplog.record_tuples == [("agent", logging.WARNING, "0 records, 2 unusable")]
