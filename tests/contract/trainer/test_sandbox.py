"""The trainer's sandbox, tried from inside: a real trainer process, taken over."""

import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.trainer.client import TrainerProcess, TrainerReported
from starling.agent.training.trainer_messages import (
    ConfinementReport,
    TrainerJob,
    TrainerJobKind,
    TrainerLimits,
    TrainerReportKind,
    readable,
)
from starling.sandbox import landlock, seccomp
from starling.sandbox.child_process import empty_folder
from tests.contract.trainer.asked_trainer import Process
from tests.contract.trainer.test_engines import PACKED, X, Y, order

HOSTILE = Path(__file__).with_name("hostile_trainer.py")
DEADLINE_S = 180.0
WITHOUT_LANDLOCK = landlock.abi() == 0
WITHOUT_SECCOMP = os.uname().machine not in seccomp.MACHINES
Found = dict[str, dict[str, str]]
Try = Callable[..., tuple[Found, ConfinementReport]]


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Try]:
    """Takes over a trainer of a real home and says what it could do."""
    home = AgentHome(tmp_path / "home")
    home.begin({})
    np.savez(home.data(home.config()) / "a.npz", x=X, y=Y)
    (home.path / "data" / "link.npz").symlink_to("../keys/device.seed")
    (home.models / "bundle").write_bytes(PACKED)
    (home.state / "privacy.journal").write_bytes(b"paid")
    (home.spool / "waiting").write_bytes(b"sealed")
    started: list[TrainerProcess] = []

    def run(
        *groups: str, without: tuple[str, ...] = ()
    ) -> tuple[Found, ConfinementReport]:
        spoken: queue.SimpleQueue[TrainerReported] = queue.SimpleQueue()
        command = (sys.executable, "-s", "-P", str(HOSTILE), *without)
        process = TrainerProcess(spoken.put, home.state / "trainer.log", command)
        started.append(process)
        bundle, data = str(home.models / "bundle"), str(home.path / "data")
        label = ",".join(groups)
        process.ask(
            TrainerJob(TrainerJobKind.LOAD, bundle, "", data, label, LIMITS, None)
        )
        report = spoken.get(timeout=DEADLINE_S).report
        assert report.kind == TrainerReportKind.RESULT, report.detail
        assert report.confinement is not None
        return json.loads(report.payload), report.confinement

    yield run
    for process in started:
        process.stop()


LIMITS = TrainerLimits(1, 8, 0, 0)


def refused(outcomes: dict[str, str]) -> bool:
    """Whether each attempt came to nothing, for want of permission."""
    assert outcomes
    return set(outcomes.values()) <= {"EPERM", "EACCES"}


@pytest.mark.skipif(WITHOUT_SECCOMP, reason="no list of calls for this machine")
def test_trainer_changes_no_file_and_reaches_nobody(attempt: Try) -> None:
    found, confinement = attempt("writing", "reaching", "own")

    assert confinement.seccomp
    assert refused(found["writing"]), found
    assert refused(found["reaching"]), found
    assert set(found["own"].values()) == {"done"}, found


@pytest.mark.skipif(
    WITHOUT_LANDLOCK, reason="this kernel has no Landlock, or it is off"
)
def test_trainer_reads_nothing_but_its_folders(attempt: Try) -> None:
    found, confinement = attempt("reading", "own")

    assert confinement.landlock == landlock.abi()
    assert refused(found["reading"]), found
    assert set(found["own"].values()) == {"done"}, found


@pytest.mark.skipif(
    WITHOUT_LANDLOCK, reason="this kernel has no Landlock, or it is off"
)
def test_landlock_alone_keeps_files_and_sockets(attempt: Try) -> None:
    found, confinement = attempt("reading", "own", without=("seccomp",))

    assert confinement == ConfinementReport(landlock.abi(), 0)
    assert refused(found["reading"]), found
    assert set(found["own"].values()) == {"done"}, found


@pytest.mark.skipif(WITHOUT_SECCOMP, reason="no list of calls for this machine")
def test_seccomp_alone_changes_no_file_and_reaches_nobody(attempt: Try) -> None:
    found, confinement = attempt("writing", "reaching", without=("landlock",))

    assert confinement == ConfinementReport(0, 1)
    assert refused(found["writing"]), found
    assert refused(found["reaching"]), found


@pytest.mark.skipif(WITHOUT_SECCOMP, reason="no list of calls for this machine")
def test_every_call_that_is_not_listed_fails(attempt: Try) -> None:
    found, _ = attempt("calls")

    assert set(found["calls"].values()) <= {"EPERM", "ENOSYS"}, found


def test_trainer_without_either_says_so_and_works(attempt: Try) -> None:
    found, confinement = attempt("reading", "own", without=("landlock", "seccomp"))

    assert confinement == ConfinementReport(0, 0)
    assert set(found["own"].values()) == {"done"}, found
    # So that the attempts of the other tests are known to be worth refusing.
    assert {found["reading"][name] for name in ("key", "passwd", "state")} == {"done"}


def test_words_of_a_crash_stay_inside(tmp_path: Path) -> None:
    process = Process(tmp_path, (sys.executable, "-s", "-P", str(HOSTILE)))
    process.trainer.ask(replace(process.job(None), label="crash"))

    report = process.report()
    process.trainer.stop()

    assert report.kind == TrainerReportKind.FAILED_TRAINING
    assert "ValueError at " in report.detail
    log = (tmp_path / "trainer.log").read_bytes()
    assert b"_work" in log
    assert b"36.6" not in log + report.detail.encode()


def test_memory_is_nobodys_after_it_was_hidden() -> None:
    script = (
        "import ctypes, resource; from starling.sandbox.syscalls import hide_memory; "
        "hide_memory(); assert ctypes.CDLL(None).prctl(3) == 0; "
        "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_folder_to_work_in_is_empty_whatever_was_there(tmp_path: Path) -> None:
    folder, target = tmp_path / "folder", tmp_path / "target"
    target.mkdir()
    (target / "kept").touch()
    before: list[Callable[[], object]] = [
        lambda: (folder / "left").mkdir(parents=True),
        folder.touch,
        lambda: folder.symlink_to(target),
        lambda: None,
    ]
    for prepare in before:
        prepare()
        empty_folder(folder)
        assert not folder.is_symlink()
        assert folder.stat().st_mode & 0o777 == 0o500
        assert not list(folder.iterdir())
        folder.rmdir()
    assert (target / "kept").exists()


def test_environment_holds_nothing_of_the_agents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARLING_SECRET", "token")
    script = (
        "import os, sys; sys.exit(' '.join(sorted(os.environ)) + ' ' + os.getcwd())"
    )
    process = Process(tmp_path, (sys.executable, "-c", script))

    said = process.answer(None).detail
    process.trainer.stop()

    assert "SECRET" not in said
    assert "PATH" not in said.replace("PYTHONPATH", "").replace("LD_LIBRARY_PATH", "")
    assert "ORT_DISABLE_TELEMETRY" in said
    assert said.endswith("trainer.folder")
    assert not list((tmp_path / "trainer.folder").iterdir())


def test_confined_training_gives_the_same_bytes(tmp_path: Path) -> None:
    bare = (sys.executable, "-s", "-P", str(HOSTILE), "honest", "landlock", "seccomp")
    found: dict[ConfinementReport | None, bytes] = {}
    for name, command in (("confined", None), ("bare", bare)):
        (tmp_path / name).mkdir()
        process = Process(tmp_path / name, command)
        assert process.answer(order()).kind == TrainerReportKind.READY
        process.trainer.resume()
        report = process.report()
        process.trainer.stop()
        found[report.confinement] = report.payload

    assert ConfinementReport(0, 0) in found
    assert len(found) == 2
    assert len(set(found.values())) == 1


def test_trainer_with_several_threads_is_confined_too(tmp_path: Path) -> None:
    process = Process(tmp_path)
    limits = TrainerLimits(3, 8, 0, 0)
    assert process.answer(order(), limits).kind == TrainerReportKind.READY

    process.trainer.resume()
    report = process.report()
    process.trainer.stop()

    assert report.kind == TrainerReportKind.RESULT
    expected = ConfinementReport(landlock.abi(), int(not WITHOUT_SECCOMP))
    assert report.confinement == expected


def test_trainer_starts_anew_for_a_folder_that_was_replaced(tmp_path: Path) -> None:
    process = Process(tmp_path, (sys.executable, "-s", "-P", str(HOSTILE)))
    data, outcomes = tmp_path / "data", []
    for _ in range(2):
        process.trainer.ask(replace(process.job(None), label="own"))
        outcomes += [json.loads(process.report().payload)["own"]["read the data"]]
        process.trainer.answered()
        data.rename(tmp_path / f"old{len(outcomes)}")
        data.mkdir()
        (data / "a.npz").write_bytes(b"new")
    process.trainer.stop()

    assert outcomes == ["done", "done"]


def test_job_without_data_lets_nothing_but_the_models_be_read() -> None:
    job = TrainerJob(
        TrainerJobKind.LOAD, "/m/bundle", "/m/theta", "", "", LIMITS, None, "/m/head"
    )

    assert readable(job) == ("/m",)
    assert readable(replace(job, data_path="/data")) == ("/data", "/m")
