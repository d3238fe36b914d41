"""The trainer as a process: it waits for the charge, and answers alike."""

import errno
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from starling.agent import open_trainer
from starling.agent.trainer.engines.ort_training_engine import is_available
from starling.agent.training.trainer_messages import (
    TrainerJobKind,
    TrainerReport,
    TrainerReportKind,
    TrainingOrder,
)
from starling.protocol.errors import ProtocolError
from starling.protocol.learning.task import Q24, TrainingMode
from starling.protocol.learning.vector_codecs import CODECS
from starling.protocol.model.training_bundle import GRADIENT, pack_bundle
from starling.protocol.privacy.mechanisms import (
    DEVICE_GAUSSIAN,
    DEVICE_LAPLACE,
    RECORD_DPSGD,
    RECORD_GAUSSIAN,
)
from tests.contract.trainer.asked_trainer import (
    LIMITS,
    Process,
)
from tests.contract.trainer.test_engines import (
    CLASSES,
    FEATURES,
    FILES,
    PACKED,
    RECORDS,
    X,
    Y,
    order,
)
from tests.contract.trainer.test_personal_layers import LOCAL_PACKED


def no_descriptor(patch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Leaves this process not one more descriptor; gives back how to end that."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, before[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, before)


def no_process(patch: pytest.MonkeyPatch) -> Callable[[], None]:
    def fork(*_words: object, **_options: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    patch.setattr(subprocess, "Popen", fork)
    return patch.undo


def no_thread(patch: pytest.MonkeyPatch) -> Callable[[], None]:
    def start(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    patch.setattr(threading.Thread, "start", start)
    return patch.undo


@pytest.mark.parametrize(
    ("scarcity", "remedy"),
    [(no_descriptor, "LimitNOFILE"), (no_process, "TasksMax"), (no_thread, "TasksMax")],
    ids=["descriptors", "processes", "threads"],
)
def test_trainer_that_cannot_be_started_is_a_failed_training_and_the_next_one_works(
    process: Process,
    monkeypatch: pytest.MonkeyPatch,
    scarcity: Callable[[pytest.MonkeyPatch], Callable[[], None]],
    remedy: str,
) -> None:
    over = scarcity(monkeypatch)
    try:
        process.trainer.ask(process.job(None))
    finally:
        over()
    failed = process.report()
    process.trainer.answered()

    assert failed.kind == TrainerReportKind.FAILED_TRAINING
    assert failed.detail.startswith("the trainer cannot be started: ")
    assert remedy in failed.detail
    assert process.answer(None).kind == TrainerReportKind.LOADED


def test_process_loads_a_bundle_and_counts_the_records_for_their_owner(
    process: Process,
) -> None:
    bad = X.copy()
    bad[3, 1], bad[5] = np.nan, bad[4]
    labels = Y.copy()
    labels[5], labels[7] = labels[4], 99
    np.savez(process.folder / "data" / "a.npz", x=bad, y=labels)

    loaded = process.answer(None)
    process.trainer.answered()
    process.trainer.ask(replace(process.job(None), kind=TrainerJobKind.COUNT))
    counted = process.report()

    assert replace(loaded, confinement=None) == TrainerReport(TrainerReportKind.LOADED)
    assert counted.kind == TrainerReportKind.COUNTED
    assert counted.found is not None
    facts = counted.found
    assert (facts.records, facts.unusable) == (RECORDS - 2, 2)
    assert facts.duplicates == 1
    assert [text.split(":")[1] for text in facts.complaints] == [
        " record 4",
        " record 8",
    ]
    assert "99" not in " ".join(facts.complaints)


def test_process_waits_for_the_charge_before_its_result(process: Process) -> None:
    wanted = order(mechanism=RECORD_GAUSSIAN, codec=1)

    ready = process.answer(wanted)
    assert ready.kind == TrainerReportKind.READY
    assert process.spoken.empty()
    process.trainer.resume()
    result = process.report()

    assert result.kind == TrainerReportKind.RESULT
    assert CODECS[1].decode(result.payload, wanted.dimension).any()


def test_process_reads_data_only_after_the_charge(process: Process) -> None:
    # What is written after READY is what is trained on: nothing was read before.
    wanted = order()
    (process.folder / "data" / "a.npz").unlink()

    assert process.answer(wanted).kind == TrainerReportKind.READY
    np.savez(process.folder / "data" / "a.npz", x=X[:9], y=Y[:9])
    process.trainer.resume()
    result = process.report()

    assert result.found is not None
    assert result.found.records == 9
    found = CODECS[0].decode(result.payload, wanted.dimension) / Q24
    trainer = open_trainer(PACKED)
    exact, _ = trainer.gradient_sum(trainer.theta, X[:9], Y[:9])
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)


def spoil_nothing(folder: Path) -> None:
    del folder


def spoil_a_label(folder: Path) -> None:
    labels = Y.copy()
    labels[7] = CLASSES
    np.savez(folder / "a.npz", x=X, y=labels)


def spoil_a_value(folder: Path) -> None:
    bad = X.copy()
    bad[3, 1] = np.inf
    np.savez(folder / "a.npz", x=bad, y=Y)


def spoil_the_file(folder: Path) -> None:
    (folder / "a.npz").write_bytes(b"no zip")


def spoil_the_shape(folder: Path) -> None:
    np.savez(folder / "a.npz", x=X[:, :-1], y=Y)


def spoil_by_deletion(folder: Path) -> None:
    (folder / "a.npz").unlink()


SPOILS = [
    spoil_nothing,
    spoil_a_label,
    spoil_a_value,
    spoil_the_file,
    spoil_the_shape,
    spoil_by_deletion,
]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize(
    "wanted",
    [
        order(mechanism=RECORD_GAUSSIAN),
        order(TrainingMode.LOCAL, RECORD_DPSGD),
        order(TrainingMode.LOCAL, DEVICE_GAUSSIAN),
        order(mechanism=DEVICE_LAPLACE),
    ],
    ids=["record-gaussian", "record-dpsgd", "device-gaussian", "device-laplace"],
)
def test_process_answers_alike_whatever_the_data_are(
    process: Process, wanted: TrainingOrder, spoil: Callable[[Path], None]
) -> None:
    spoil(process.folder / "data")

    ready = process.answer(wanted)
    process.trainer.resume()
    result = process.report()

    assert replace(ready, confinement=None) == TrainerReport(TrainerReportKind.READY)
    assert result.kind == TrainerReportKind.RESULT
    assert len(result.payload) == 4 * wanted.dimension
    assert CODECS[0].decode(result.payload, wanted.dimension).any()


CRASHING = """
import ctypes, sys
from starling.agent.trainer import worker
from starling.agent.trainer.engines.onnxruntime_engine import OrtTrainer
honest = OrtTrainer.gradient_sum
def gradient_sum(self, theta, x, y):
    if (x > 3.0).any():
        ctypes.string_at(0)
    return honest(self, theta, x, y)
OrtTrainer.gradient_sum = gradient_sum
sys.exit(worker.main())
"""


@pytest.mark.parametrize(
    "wanted",
    [order(mechanism=RECORD_GAUSSIAN), order(TrainingMode.LOCAL, RECORD_DPSGD)],
    ids=["record-gaussian", "record-dpsgd"],
)
def test_record_that_crashes_the_engine_is_named_and_can_be_left_out(
    tmp_path: Path, wanted: TrainingOrder
) -> None:
    process = Process(tmp_path, (sys.executable, "-c", CRASHING))
    bad = X.copy()
    bad[[7, 23], 1] = 9.0
    np.savez(tmp_path / "data" / "a.npz", x=bad, y=Y)
    skipped: tuple[int, ...] = ()
    reports = []
    for _ in range(3):
        process.trainer.ask(replace(process.job(wanted), skipped=skipped))
        assert process.report().kind == TrainerReportKind.READY
        process.trainer.resume()
        spoke = process.spoke()
        reports.append(spoke.report.kind)
        if spoke.record is not None:
            skipped = (*skipped, spoke.record)
        process.trainer.answered()
    process.trainer.stop()

    crash = TrainerReportKind.FAILED_TRAINING
    assert reports == [crash, crash, TrainerReportKind.RESULT]
    assert skipped == (7, 23)


def test_process_keeps_the_boards_own_parameters(process: Process) -> None:
    (process.folder / "bundle").write_bytes(LOCAL_PACKED)
    dimension = open_trainer(LOCAL_PACKED).manifest.dimension
    wanted = replace(order(), dimension=dimension)
    (process.folder / "theta").write_bytes(bytes(4 * dimension))
    head = process.folder / "own.head"
    found: list[bytes] = []

    for _ in range(2):
        job = replace(process.job(wanted), head_path=str(head))
        process.trainer.ask(job)
        assert process.report().kind == TrainerReportKind.READY
        process.trainer.resume()
        result = process.report()
        assert result.kind == TrainerReportKind.RESULT
        process.trainer.answered()
        assert result.head not in result.payload
        assert head.exists() == bool(found)
        head.write_bytes(result.head)
        found.append(result.head)

    # The second training started from what the first one left.
    first, second = [np.frombuffer(content, "<f4") for content in found]
    assert first.any()
    assert not np.array_equal(first, second)


def test_process_serves_a_second_job(process: Process) -> None:
    process.answer(None)
    process.trainer.answered()

    ready = process.answer(order())

    assert ready.kind == TrainerReportKind.READY


def test_process_without_the_charge_gives_no_result(process: Process) -> None:
    process.answer(order())

    process.trainer.release()

    assert process.report().kind == TrainerReportKind.FAILED_TRAINING


def test_process_refuses_a_graph_outside_the_allow_list(process: Process) -> None:
    evil = FILES[GRADIENT].replace(b"Gemm", b"Loop").replace(b"MatMul", b"Evil!!")
    with pytest.raises(ProtocolError):
        pack_bundle({**FILES, GRADIENT: evil})
    (process.folder / "bundle").write_bytes(PACKED.replace(b"MatMul", b"Evil!!"))

    assert process.answer(None).kind == TrainerReportKind.FAILED_MODEL


@pytest.mark.skipif(is_available(), reason="the training build is installed")
def test_process_says_that_the_training_build_is_missing(process: Process) -> None:
    limits = replace(LIMITS, engine="ort-training")

    report = process.answer(None, limits)

    assert report.kind == TrainerReportKind.FAILED_MODEL
    assert "needs onnxruntime-training-cpu" in report.detail


def test_process_says_where_there_are_no_data_files(process: Process) -> None:
    (process.folder / "data" / "a.npz").unlink()

    report = process.answer(None)

    assert report.kind == TrainerReportKind.FAILED_DATA
    assert "has no .npz, .csv" in report.detail


@pytest.mark.parametrize("memory_mb", [0, 1024])
def test_parquet_is_read_in_the_confined_process(
    process: Process, memory_mb: int
) -> None:
    columns = {f"f{place}": X[:, place] for place in range(FEATURES)}
    parquet.write_table(
        pa.table({**columns, "y": Y}), process.folder / "data" / "b.parquet"
    )
    limits = replace(LIMITS, memory_mb=memory_mb)
    job = replace(process.job(None, limits), kind=TrainerJobKind.COUNT)

    process.trainer.ask(job)
    found = process.report().found

    assert found is not None
    assert (found.complaints, found.records) == ((), 2 * RECORDS)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "segmentation fault"),
        ("import os; os.kill(os.getpid(), 4)", "illegal instruction"),
        ("import os; os.kill(os.getpid(), 9)", "killed"),
        ("raise SystemExit('no such module')", "no such module"),
        ("raise SystemExit('no\\x1b[2J colours')", "no [2J colours"),
        ("print('nonsense' * 3000)", "the trainer ended"),
    ],
    ids=["segfault", "illegal instruction", "killed", "exit", "colours", "nonsense"],
)
def test_crash_of_the_process_is_a_report(
    tmp_path: Path, script: str, said: str
) -> None:
    process = Process(tmp_path, (sys.executable, "-c", script))

    report = process.answer(order())
    process.trainer.stop()

    assert report.kind == TrainerReportKind.FAILED_TRAINING
    assert said in report.detail


def test_stopped_process_says_nothing_more_that_counts(process: Process) -> None:
    process.answer(order())
    process.trainer.stop()

    ready = process.answer(order())

    assert ready.kind == TrainerReportKind.READY
