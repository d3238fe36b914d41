"""`starling fleet run` as a user runs it, and what it survives."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from starling.fleet.cli import INTERRUPTED
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e

DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def _broker_program() -> None:
    require_mosquitto()


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "starling", "fleet", "run", *words]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=120, check=False
    )


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what}: not in time"
        time.sleep(0.05)


def process_of(home: Path, name: str) -> int:
    """The process of a service, as the fleet says."""
    return int(json.loads((home / "processes.json").read_text())[name])


def mosquitto_of(home: Path) -> int:
    """The first child of the service that runs the broker."""
    parent = process_of(home, "broker")
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return int(children.split()[0])


def processes_of(home: Path) -> list[int]:
    """Processes whose command line names this home."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                said = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(home) in said:
                found.append(int(folder.name))
    return found


def version(home: Path) -> int:
    try:
        document = json.loads((home / "coordinator" / "status.json").read_text())
    except (OSError, ValueError):
        return 0
    return int(document["tasks"][0]["head"]) if document["tasks"] else 0


def has_reached(home: Path, wanted: int) -> bool:
    return version(home) >= wanted


def test_fleet_run_private_digits_learns_and_leaves_a_report(tmp_path: Path) -> None:
    sizes = ("--devices", "4", "--buffer", "2", "--until-version", "8")
    ended = run(*sizes, "--report", str(tmp_path / "out"), "--json")

    assert ended.returncode == EXIT_DONE, ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    assert document == json.loads((tmp_path / "out" / "report.json").read_text())
    assert document["stopped_because"] == "version reached"
    assert document["chain"]["verified"] is True
    accuracies = [v["accuracy"] for v in document["versions"]]
    assert max(accuracies) > accuracies[0] + 0.2
    assert all(0 < device["epsilon"] <= 8.0 for device in document["devices"])
    assert {p.suffix for p in (tmp_path / "out").iterdir() if p.is_file()} == {
        ".json",
        ".png",
        ".svg",
    }
    assert "version" in ended.stderr
    assert processes_of(tmp_path) == []


def test_fleet_run_any_process_killed_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "home"
    sizes = ("--devices", "5", "--buffer", "2", "--until-version", "100000")
    kept = ("--home", str(home), "--report", str(tmp_path / "out"))
    with running(*sizes, "--privacy", "none", *kept, "--time-limit", "110") as child:
        until(lambda: version(home) >= 2, "the fleet learns")
        for find in (
            partial(process_of, home, "board-000"),
            partial(process_of, home, "coordinator"),
            partial(mosquitto_of, home),
        ):
            before, victim = version(home), find()
            os.kill(victim, signal.SIGKILL)
            until(partial(has_reached, home, before + 3), f"after {find}")
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=DEADLINE_S)

    document = json.loads((tmp_path / "out" / "report.json").read_text())
    assert child.returncode == INTERRUPTED
    assert document["stopped_because"] == "interrupted"
    assert document["chain"]["verified"] is True
    assert document["restarts"] >= 3
    # Not the last version's: boards that train side by side from versions of different
    # age make it swing, and the run ends at a moment of its own.
    assert max(each["accuracy"] or 0.0 for each in document["versions"]) > 0.7
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("--buffer", "99"), "--buffer: 99 is not in", id="buffer"),
        pytest.param(("--data", "none.npz"), "none.npz: no such file", id="data"),
        pytest.param(("--home", "tests"), "holds no fleet", id="home"),
    ],
)
def test_fleet_run_wrong_words_exit_as_configuration(
    words: tuple[str, ...], said: str
) -> None:
    ended = run(*words)
    assert ended.returncode == EXIT_CONFIG
    assert said in ended.stderr
    assert ended.stdout == ""
