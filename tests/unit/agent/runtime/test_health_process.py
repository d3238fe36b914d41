"""The board's checks in a process of their own: the owner's form, without the data."""

import queue
import sys
from pathlib import Path

import pytest

from starling.agent.runtime.health_process import ChecksReported, HealthProcess
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.protocol.wire.health_messages import HEALTH_REPORT, HealthReport

WAIT_S = 300.0


def checked(home: Path) -> dict[str, tuple[int, str]]:
    """Verdict and finding of each row."""
    reports: queue.SimpleQueue[ChecksReported] = queue.SimpleQueue()
    HealthProcess(home, reports.put).start()
    rows = reports.get(timeout=WAIT_S).rows
    HEALTH_REPORT.pack(HealthReport(1, rows))
    return {row.name: (row.verdict, row.found) for row in rows}


def test_rows_are_those_of_the_owner_s_check_without_the_data(tmp_path: Path) -> None:
    home = AgentHome(tmp_path / "home")
    home.begin({})

    found = checked(home.path)

    assert found["clock.set"][0] == 0
    assert found["home.enrolled"][0] == 2
    assert "runtime.onnxruntime" in found
    assert "data.readable" not in found


def test_checks_that_cannot_be_made_say_why(tmp_path: Path) -> None:
    found = checked(tmp_path / "nowhere")

    (row,) = found.values()
    assert list(found) == ["checks.ran"]
    assert row[0] == 2
    assert "missing; run: starling agent init" in row[1]


def test_process_that_cannot_be_started_is_a_row_and_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    (row,) = checked(tmp_path).values()

    assert "cannot be started: No such file" in row[1]


def test_second_run_waits_for_the_first_and_a_stop_ends_it(tmp_path: Path) -> None:
    home = AgentHome(tmp_path / "home")
    home.begin({})
    reports: queue.SimpleQueue[ChecksReported] = queue.SimpleQueue()
    made = HealthProcess(home.path, reports.put)

    made.start()
    made.start()
    made.stop()

    (row,) = reports.get(timeout=WAIT_S).rows
    assert row.name == "checks.ran"
    assert reports.empty()
