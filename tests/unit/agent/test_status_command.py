"""`starling agent status`: conditions of a board that does not run."""

import json
import random
import time
from pathlib import Path

import pytest

from starling.protocol.errors import EXIT_FAILED
from tests.unit.agent.agent_command import Capture, admission, agent


def test_enrolled_board_that_does_not_run_says_so(
    home: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = admission(home, tmp_path)
    agent("enrol", "--home", home, "--admission", path)
    capsys.readouterr()

    agent("status", "--home", home, "--json")

    shown = json.loads(capsys.readouterr().out)
    assert (shown["condition"], shown["running"]) == ("not running", False)


def test_status_of_an_agent_that_ended_shows_no_phase_of_its_last_run(
    home: Path, capsys: Capture
) -> None:
    (home / "status.json").write_text('{"phase": "training", "connected": true}')

    agent("status", "--home", home, "--json")

    shown = json.loads(capsys.readouterr().out)
    assert (shown["phase"], shown["connected"]) == ("disconnected", False)


def test_damaged_status_file_does_no_harm(home: Path, capsys: Capture) -> None:
    (home / "status.json").write_bytes(random.Random(1).randbytes(100))

    assert agent("status", "--home", home) == EXIT_FAILED
    assert "not enrolled" in capsys.readouterr().out


def test_clock_that_was_never_set_shows_in_the_status(
    home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 60.0)

    agent("status", "--home", home, "--json")

    assert json.loads(capsys.readouterr().out)["clock_plausible"] is False


def test_full_disk_shows_in_the_status(
    home: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent("enrol", "--home", home, "--admission", admission(home, tmp_path))
    capsys.readouterr()
    monkeypatch.setattr(
        "starling.agent.runtime.status_reader.space_left", lambda folder: 1000
    )

    agent("status", "--home", home, "--json")

    assert json.loads(capsys.readouterr().out)["condition"] == "disk full"
