"""`starling fleet run` as a user runs it, and what it survives."""

import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE, EXIT_INTERRUPTED
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.fleet.fleet_process import (
    has_reached,
    mosquitto_of,
    process_of,
    processes_of,
    run,
    running,
    until,
    version,
)
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def _broker_program() -> None:
    require_mosquitto()


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
    assert all(device["epsilon"] <= 8.0 for device in document["devices"])
    # A board whose process began last may find all updates there.
    contributors = [each for each in document["devices"] if each["updates_accepted"]]
    assert len(contributors) >= 2
    assert all(device["epsilon"] > 0 for device in contributors)
    assert {p.suffix for p in (tmp_path / "out").iterdir() if p.is_file()} == {
        ".json",
        ".jsonl",
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
    assert child.returncode == EXIT_INTERRUPTED
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
