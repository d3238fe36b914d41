"""A new project's folder, and that its commands run."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from starling import __main__ as starling
from starling.coordinator.task_file.task_settings import TaskSettings
from starling.fleet.project_files import NewProject, project_files
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE, ConfigError
from starling.protocol.schema.toml_settings import load_settings

ROWS = 240


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with names that a shell would take apart."""
    file = tmp_path / "my $data.csv"
    rng = np.random.default_rng(3)
    lines = ["a,b,the site,it's"]
    for row in range(ROWS):
        a, b = rng.normal(size=2)
        lines.append(f"{a:.4f},{b:.4f},site {row % 4},{'yes' if a > b else 'no'}")
    file.write_text("\n".join(lines) + "\n")
    return file


def new(*words: str | Path) -> int:
    return starling.main(["new", *map(str, words)])


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_main_command_of_a_project_checks_trains_and_exports(
    tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "energy"
    words = ["--target", "it's", "--board-column", "the site", "--buffer", "2"]
    words += ["--until-version", "2", "--json"]

    assert new(folder, "--data", table, *words) == EXIT_DONE

    made = json.loads(capsys.readouterr().out)
    assert made["files"] == [".gitignore", "Makefile", "README.md", "task.toml"]
    program = f"STARLING={sys.executable} -m starling"
    done = subprocess.run(
        ["make", "-C", str(folder), program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing stands in the way" in done.stdout
    assert (folder / "build" / "model.onnx").stat().st_size > 0
    assert "epsilon" in (folder / "build" / "MODEL.md").read_text()


@pytest.mark.parametrize("privacy", ["record", "device-gaussian", "none"])
def test_task_of_a_project_is_one(privacy: str) -> None:
    project = NewProject("energy", privacy=privacy, epsilon=3.0, buffer=6)

    settings = load_settings(
        TaskSettings, project_files(project)["task.toml"], "task.toml"
    )

    assert (settings.name, settings.buffer, settings.leases) == ("energy", 6, 12)
    assert settings.privacy.epsilon == 3.0


def test_model_of_ones_own_is_taken_along(tmp_path: Path) -> None:
    own = tmp_path / "net.onnx"
    own.write_bytes(b"graph")

    assert new(tmp_path / "p", "--model", own, "--yes") == EXIT_DONE

    assert (tmp_path / "p" / "net.onnx").read_bytes() == b"graph"
    assert "--model net.onnx" in (tmp_path / "p" / "Makefile").read_text()


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--data", "away.csv"], "--data: there is no such file"),
        (["--model", "away.onnx"], "--model: there is no such file"),
        (["--privacy", "much"], "--privacy: 'much' is none of"),
        (["--name", "a\nb"], "--name: 1 to 64 letters"),
        (["--epsilon", "0"], "--epsilon: 0 is not in"),
        (["--devices", "9" * 30], "--devices: 9"),
        (["--buffer", "0"], "--buffer: 0 is not in"),
        (["--target", "a\nb"], "--target: .* cannot stand in a Makefile"),
    ],
)
def test_project_that_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], wrong: str
) -> None:
    assert new(tmp_path / "p", *words) == EXIT_CONFIG

    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert wrong.partition(":")[0] in said
    assert not (tmp_path / "p").exists()


def test_folder_with_something_in_it_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    assert new(tmp_path) == EXIT_CONFIG
    assert "something is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Questions at a terminal, which have no answer."""
    found: list[str] = []

    def answer(question: str) -> str:
        found.append(question)
        return ""

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    return found


def test_wrong_path_is_refused_before_a_question(
    tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    said = {}
    cases: dict[str, list[str | Path]] = {
        "taken": [tmp_path],
        "is a file": [tmp_path / "file"],
        "below a file": [tmp_path / "file" / "p" / "q"],
        "data": [tmp_path / "p", "--data", "away.csv"],
        "model": [tmp_path / "p", "--model", "away.onnx"],
    }
    for name, words in cases.items():
        assert new(*words) == EXIT_CONFIG
        said[name] = capsys.readouterr().err

    assert asked == []
    assert "something is there already" in said["taken"]
    assert "something is there already" in said["is a file"]
    assert "is no folder: name one below a folder" in said["below a file"]
    assert "--data: there is no such file" in said["data"]
    assert "--model: there is no such file" in said["model"]
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("below", ["p", "p/q/r", "."])
def test_folder_that_cannot_be_written_to_is_refused_before_a_question(
    tmp_path: Path,
    asked: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    below: str,
) -> None:
    # Root may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)

    assert new(tmp_path / below) == EXIT_CONFIG

    assert asked == []
    assert f"may not write to {tmp_path}: name another" in capsys.readouterr().err


def test_questions_are_asked_for_what_no_flag_said(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"data": str(table), "column that names": "the site", "privacy": "none"}
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        found = (text for key, text in answers.items() if question.startswith(key))
        return next(found, "")

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)

    assert new(tmp_path / "p", "--target", "it's") == EXIT_DONE

    text = (tmp_path / "p" / "Makefile").read_text()
    assert "--privacy none" in text
    assert "--board-column 'the site'" in text
    assert not [question for question in asked if "learned" in question]


def test_name_of_a_task_has_bounds() -> None:
    with pytest.raises(ConfigError, match="--name"):
        NewProject("x" * 65)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
@pytest.mark.parametrize("column", ["#", "a#b", "\\#", "$#"])
def test_hash_in_a_name_is_no_comment_to_make(tmp_path: Path, column: str) -> None:
    text = project_files(NewProject("x", data="/d/a#b.csv", target=column))["Makefile"]
    (tmp_path / "Makefile").write_text(text)
    told = 'STARLING=printf "%s\\n"'

    done = subprocess.run(
        ["make", "-s", "-C", str(tmp_path), "run", told],
        capture_output=True,
        text=True,
        check=True,
    )

    words = done.stdout.splitlines()
    assert words[words.index("--target") + 1] == column
    assert "/d/a#b.csv" in words
    assert "build/report" in words


def test_input_that_ends_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = io.StringIO()
    monkeypatch.setattr(ended, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", ended)

    assert new(tmp_path / "energy") == EXIT_CONFIG
    assert "--yes" in capsys.readouterr().err
    assert not (tmp_path / "energy").exists()
