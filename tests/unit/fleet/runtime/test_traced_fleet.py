"""What a fleet leaves is enough to find out who spoiled its model, as a user does."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from starling import __main__ as starling
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.fleet import FleetPlan
from starling.fleet.runtime.training_material import prepare
from starling.fleet.runtime.virtual_run import Pace, run_prepared

VERSIONS = 6


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet's folder; board 1 of six sends its updates turned around."""
    folder = tmp_path_factory.mktemp("fleet") / "home"
    plan = FleetPlan(
        devices=6,
        buffer=5,
        privacy="none",
        until_version=VERSIONS,
        seed=5,
        fault="boards 1 flip signs 3 from version 0",
    )
    material = prepare(plan)
    run_prepared(material, Pace(), threads=1, home=folder)
    held_out = material.data.held_out
    np.savez(folder / "held_out.npz", x=held_out.x, y=held_out.y)
    return folder


def chain(*words: object) -> int:
    return starling.main(["chain", *(str(word) for word in words)])


def traced(
    capsys: pytest.CaptureFixture[str], home: Path, *words: object
) -> dict[str, object]:
    assert chain("trace", "--home", home, "--json", *words) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def test_trace_names_the_attacker_from_chain_and_vectors_alone(
    left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, data = left / "coordinator", left / "held_out.npz"

    found = traced(capsys, home, "--data", data, "--inputs", data)

    assert (found["from"], found["version"]) == (0, VERSIONS)
    assert found["updates"] == 5 * VERSIONS
    assert isinstance(found["suspects"], list)
    (suspect,) = found["suspects"]
    assert {"harm", "blame"} <= set(suspect["reasons"])
    assert len(suspect["contributions"]) == suspect["updates"]
    assert isinstance(found["losses"], dict)
    assert suspect["losses_without"]["harm"] < found["losses"]["harm"]
    assert found["without_suspects"] == suspect["losses_without"]


def test_exported_copy_gives_the_same_trace(
    left: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, data = left / "coordinator", left / "held_out.npz"
    assert chain("export", "--home", home, "--out", tmp_path, "--vectors") == 0
    capsys.readouterr()

    assert not (tmp_path / "keys").exists()
    of_the_copy = traced(capsys, tmp_path, "--data", data)
    assert of_the_copy == traced(capsys, home, "--data", data)
    assert chain("export", "--home", home, "--out", tmp_path, "--vectors") == 78
    assert "a chain is there already" in capsys.readouterr().err


def test_trace_begins_after_the_last_vector_that_is_gone(
    left: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = left / "coordinator"
    assert chain("export", "--home", home, "--out", tmp_path, "--vectors") == 0
    capsys.readouterr()
    whole = traced(capsys, home)
    with closing(sqlite3.connect(tmp_path / "state" / CHAIN_FILE)) as copy, copy:
        suspect = whole["suspects"][0]  # type: ignore[index]  # JSON
        lost = suspect["contributions"][1]
        copy.execute(
            "DELETE FROM uploads WHERE id = ?", [bytes.fromhex(lost["update"])]
        )

    assert traced(capsys, tmp_path)["from"] == lost["version"]
    assert chain("trace", "--home", tmp_path, "--from", 0) == 1
    said = f"vectors are kept of the versions after {lost['version']} only"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--task", 3], 78, "there is no task 3; the chain has 1"),
        (["--version", 99], 1, "no updates made version 99; the newest is 6"),
        (["--version", 0], 1, "no updates made version 0"),
        (["--without", "nobody"], 78, "--without"),
        (["--data", "absent.npz"], 78, "absent.npz"),
    ],
)
def test_mistake_gives_one_line(
    left: Path,
    words: list[object],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert chain("trace", "--home", left / "coordinator", *words) == status
    assert said in capsys.readouterr().err


def test_vector_that_is_not_what_was_signed_is_not_believed(
    left: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = left / "coordinator"
    assert chain("export", "--home", home, "--out", tmp_path, "--vectors") == 0
    with closing(sqlite3.connect(tmp_path / "state" / CHAIN_FILE)) as copy, copy:
        rows = copy.execute("SELECT number, blob FROM uploads LIMIT 2").fetchall()
        (one, blob), (other, another) = rows
        copy.execute("UPDATE uploads SET blob = ? WHERE number = ?", (another, one))
        copy.execute("UPDATE uploads SET blob = ? WHERE number = ?", (blob, other))

    assert chain("trace", "--home", tmp_path) == 1
    assert "blob differs from its digest" in capsys.readouterr().err
