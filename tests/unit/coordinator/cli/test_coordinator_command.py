import json
from pathlib import Path

import pytest

from starling.coordinator.cli.coordinator_command import main
from starling.coordinator.config import CoordinatorConfig
from starling.coordinator.publication.task_settings import TaskSettings
from starling.protocol.errors import ConfigError, OperationError
from starling.protocol.schema.toml_settings import load_settings, sample


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with settings and nothing else."""
    (tmp_path / "coordinator.toml").write_text(sample(CoordinatorConfig))
    return tmp_path


def write_status(home: Path, pid: int) -> None:
    document = {
        "state": "running",
        "broker": "connected",
        "pid": pid,
        "chain": {"height": 7, "boards": 2},
        "updates": {"accepted": 3, "refused": {"STALE": 1}},
        "tasks": [{"task": 0, "head": 1, "versions": [{"accuracy": 0.5}]}],
    }
    (home / "status.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["init", "--fleet", "Bad Name", "--broker", "b"], "fleet"),
        (["init", "--fleet", "good", "--broker", "b"], "starling broker init"),
        (["run"], "starling coordinator init"),
        (["status"], "starling coordinator init"),
        (["revoke", "nobody"], "device"),
        (["id"], "signing: missing"),
        (["resume", "--height", "3"], "starling coordinator init"),
        (["resume", "--height", "0"], "at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_verb_without_what_it_needs_says_what_to_do(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=said):
        main([*words, "--home", str(tmp_path / "home")])


def test_any_verb_without_a_home_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("STARLING_HOME", raising=False)

    with pytest.raises(ConfigError, match="STARLING_HOME"):
        main(["status"])


def test_status_before_the_first_run_is_a_failure(home: Path) -> None:
    with pytest.raises(OperationError, match="has not run here"):
        main(["status", "--home", str(home)])


def test_status_of_a_process_that_was_killed_does_not_say_running(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Beyond the largest process id that Linux gives.
    write_status(home, 1 << 22)

    assert main(["status", "--home", str(home)]) == 0

    shown = capsys.readouterr().out
    assert "not running" in shown
    assert "version 1, accuracy 50.00 %" in shown
    assert "refused stale" in shown


def test_status_as_json_is_one_document(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_status(home, 1)

    assert main(["status", "--home", str(home), "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["chain"]["height"] == 7


def test_task_template_is_a_task_that_can_be_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["task-template"]) == 0

    text = capsys.readouterr().out
    assert load_settings(TaskSettings, text, "task.toml").name == "my task"


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"]])
def test_help_ends_well_and_shows_examples(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)

    assert ended.value.code == 0
    assert "starling coordinator" in capsys.readouterr().out
