"""The whole check of a home: one form, one row a fault, and no traceback."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from starling import __main__ as starling
from starling.agent.runtime.checks import (
    agent_check,
    memory_limit,
    subprocess_checks,
)
from starling.agent.runtime.checks.memory_limit import MemoryLimit
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.health_checks import HealthCheck
from starling.durable.locks import lock
from starling.protocol.errors import EXIT_CONFIG, EXIT_FAILED

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    made = AgentHome(tmp_path / "home")
    made.begin({})
    return made


def check(home: AgentHome, capsys: Capture) -> dict[str, dict[str, Any]]:
    status = starling.main(["agent", "check", "--home", str(home.path), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert list(said) == ["ok", "checks"]
    assert status == (0 if said["ok"] else EXIT_FAILED)
    assert all(
        set(row) == {"name", "verdict", "found", "fix"} for row in said["checks"]
    )
    rows = {row["name"]: row for row in said["checks"]}
    assert len(rows) == len(said["checks"])
    assert [
        name for name, row in rows.items() if row["verdict"] != "ok" and not row["fix"]
    ] == []
    return rows


def test_new_home_lacks_its_admission_and_its_data(
    home: AgentHome, capsys: Capture
) -> None:
    rows = check(home, capsys)

    failed = {name for name, row in rows.items() if row["verdict"] == "fail"}
    assert failed == {
        "data.readable",
        "home.enrolled",
        "tls.authority-expiry",
        "tls.expiry",
    }
    assert "net.dns" not in rows
    assert rows["process.alive"]["found"] == "not running"


def test_check_to_show_to_others_has_nothing_that_depends_on_the_data(
    home: AgentHome, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.path / "data" / "own.csv").write_text("a,b\n1,2\n1,x\n")
    said = {"condition": "no data files", "fault": "own.csv: record 2"}
    monkeypatch.setattr(agent_check, "read_status", lambda _: said)
    words = ["agent", "check", "--home", str(home.path), "--json"]
    starling.main(words)
    everything = capsys.readouterr().out

    starling.main([*words, "--without-data"])
    shown = capsys.readouterr().out

    assert "own.csv: record 2" in everything
    assert "own.csv" not in shown
    names = [row["name"] for row in json.loads(everything)["checks"]]
    left = [row["name"] for row in json.loads(shown)["checks"]]
    assert [name for name in names if name not in left] == ["data.readable"]


def test_faults_of_a_home_each_have_their_row(home: AgentHome, capsys: Capture) -> None:
    (home.path / "keys" / "tls.pem").chmod(0o644)
    home.path.chmod(0o755)
    (home.spool / "1-2.upload.damaged").touch()
    (home.models).rmdir()
    (home.state / "lock").write_text("1\n")

    rows = check(home, capsys)

    assert "chmod 600" in rows["keys.tls-private"]["fix"]
    assert rows["keys.device-private"]["verdict"] == "ok"
    assert "mode 0755" in rows["home.owner"]["found"]
    assert "1-2.upload.damaged was set aside" in rows["spool.room"]["found"]
    assert "is missing" in rows["home.models-writable"]["found"]
    assert "names 1, which is no agent" in rows["process.alive"]["found"]


def test_running_agent_is_found_by_its_lock(home: AgentHome, capsys: Capture) -> None:
    with lock(home.state / "lock"):
        rows = check(home, capsys)

    assert rows["process.alive"]["found"] == f"process {os.getpid()}"


def test_certificate_that_is_damaged_is_told(home: AgentHome, capsys: Capture) -> None:
    home.tls.certificate.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    home.tls.authority.write_bytes(b"\xff")

    rows = check(home, capsys)

    for name, path in (
        ("tls.expiry", home.tls.certificate),
        ("tls.authority-expiry", home.tls.authority),
    ):
        assert rows[name]["found"] == f"{path}: no certificate"
        assert rows[name]["fix"].startswith("enrol again: starling agent enrol")


def test_lock_that_cannot_be_read_does_not_end_the_check(
    home: AgentHome, capsys: Capture
) -> None:
    (home.state / "lock").mkdir()

    rows = check(home, capsys)

    assert "Is a directory" in rows["process.looked-at"]["found"]
    assert "data.readable" in rows


def test_text_has_a_way_out_below_each_fault(home: AgentHome, capsys: Capture) -> None:
    starling.main(["agent", "check", "--home", str(home.path)])

    lines = capsys.readouterr().out.splitlines()
    place = next(i for i, line in enumerate(lines) if "home.enrolled" in line)
    assert lines[place].startswith("fail ")
    assert lines[place + 1].strip().startswith("-> run: starling agent enrol")


def test_folder_that_is_no_home_is_a_mistake_of_the_operator(
    tmp_path: Path, capsys: Capture
) -> None:
    assert starling.main(["agent", "check", "--home", str(tmp_path)]) == EXIT_CONFIG

    assert "agent.toml" in capsys.readouterr().err


def test_rows_are_shown_as_they_are_found(
    home: AgentHome, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def killed() -> Iterator[HealthCheck]:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess_checks, "engine_checks", killed)

    starling.main(["agent", "check", "--home", str(home.path)])

    shown = capsys.readouterr().out
    assert "clock.set" in shown
    assert "runtime.onnxruntime" not in shown


def test_too_little_memory_for_the_checks_is_said_before_them(
    home: AgentHome, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(memory_limit, "memory_limit", lambda: MemoryLimit(40, 12))

    starling.main(["agent", "check", "--home", str(home.path), "--json"])

    said = capsys.readouterr()
    assert "of the 40 MiB that this container may have, 12 are left" in said.err
    assert json.loads(said.out)["checks"]
