"""`starling top` at a home whose coordinator runs, stopped, or never was."""

import json
import os
from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.fleet.runtime.deployment_reader import DeploymentReader
from starling.protocol.errors import (
    EXIT_CONFIG,
    EXIT_DONE,
    EXIT_FAILED,
    StorageError,
)
from tests.unit.console.conftest import set_up, write_status
from tests.unit.console.status_documents import document

LATER_S = 10_000_000_000
DEAD = 2**22 + 1
"""Above every process id that Linux gives."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = set_up(tmp_path)
    told = document()
    told["pid"] = os.getpid()
    told["consensus"] |= {"peers": [], "silence": ""}
    told["chain"] |= {"tip": "ab" * 32, "state_root": "cd" * 32}
    write_status(made, told)
    fresh(made)
    return made


def fresh(home: Path) -> None:
    """Lets the status stay new, however slow the test is."""
    os.utime(home / "status.json", (LATER_S, LATER_S))


def top(home: Path, *words: str) -> int:
    return starling.main(["top", "--home", str(home), *words])


def test_running_coordinator_is_shown_once(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert top(home, "--once") == EXIT_DONE

    said = capsys.readouterr().out
    assert "task 0: digits" in said
    assert "does not run" not in said


def test_json_is_one_document(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert top(home, "--json") == EXIT_DONE

    told = json.loads(capsys.readouterr().out)
    assert (told["running"], told["version"]) == (True, 3)


@pytest.mark.parametrize("how", ["dead", "old", "stopped"])
def test_coordinator_that_is_gone_is_said_first(
    home: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    told = json.loads((home / "status.json").read_text())
    told["pid"] = DEAD if how == "dead" else os.getpid()
    told["state"] = "stopped" if how == "stopped" else "running"
    write_status(home, told)
    fresh(home)
    if how == "old":
        os.utime(home / "status.json", (1_000_000_000, 1_000_000_000))

    assert top(home, "--once") == EXIT_DONE
    assert capsys.readouterr().out.startswith("The coordinator does not run")
    assert top(home, "--json") == EXIT_DONE
    assert json.loads(capsys.readouterr().out)["running"] is False


@pytest.mark.parametrize(
    ("content", "status", "wrong"),
    [
        (None, EXIT_FAILED, "no status yet"),
        ("{", EXIT_FAILED, "no status yet"),
        ('{"state": 1}', EXIT_FAILED, "of another release"),
    ],
)
def test_status_that_is_none_is_said(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    status: int,
    wrong: str,
) -> None:
    (home / "status.json").unlink()
    if content is not None:
        (home / "status.json").write_text(content)

    assert top(home, "--once") == status
    assert wrong in capsys.readouterr().err


def test_home_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert top(tmp_path / "away") == EXIT_CONFIG
    assert "there is no such folder" in capsys.readouterr().err


def test_status_that_goes_while_it_is_shown_is_an_error_that_names_it(
    home: Path,
) -> None:
    reader = DeploymentReader(home, None)
    reader.document()
    (home / "status.json").unlink()

    with pytest.raises(StorageError, match="status"):
        reader.document()
