import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from starling.coordinator.cli.coordinator_command import main, parser
from starling.coordinator.config import CoordinatorConfig
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.task_file.task_settings import TaskSettings
from starling.protocol.errors import ConfigError, FederationError, OperationError
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


DAMAGED = [
    b"",
    b'{"state": "running", "pid": 1',
    b"\0" * 100,
    b"[" * 100_000,
    b"null",
    b'"running"',
    b"{}",
    b'{"state": "running", "pid": "1"}',
    b'{"state": "running", "pid": 1e99}',
    b'{"state": "running", "pid": 99999999999999999999999}',
    b'{"state": "stopped", "pid": 1, "broker": "", "chain": [], "updates": []}',
]


@pytest.mark.parametrize("content", DAMAGED)
def test_status_that_is_not_whole_is_said_in_one_line(
    home: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "status.json").write_bytes(content)

    with pytest.raises(OperationError, match=r"status\.json: .*anew once it runs"):
        main(["status", "--home", str(home)])

    assert main(["check", "--home", str(home), "--json"]) == 1
    failed = json.loads(capsys.readouterr().out)["checks"][-1]
    assert failed["verdict"] == "fail"
    assert failed["fix"]


@pytest.mark.parametrize("content", [b"", b"garbage", b"-1\n", b"9" * 33])
def test_counter_that_is_damaged_does_not_begin_anew(
    home: Path, content: bytes
) -> None:
    counters = CoordinatorHome(home)
    counters.state.mkdir()
    assert [counters.next_counter("boots") for _ in range(2)] == [1, 2]
    (counters.state / "boots.counter").write_bytes(content)

    with pytest.raises(FederationError, match=r"boots\.counter"):
        counters.next_counter("boots")


@pytest.mark.parametrize("name", ["", "a\nb", "caf\udce9", "\xe4" * 200])
def test_identity_of_a_name_that_cannot_be_shown_is_refused(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="name: "):
        main(["identity", "--home", str(tmp_path / "home"), "--name", name])
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("flag", ["--port", "--heartbeat"])
@pytest.mark.parametrize("value", ["-1", "0", "99999999", "nan"])
def test_init_out_of_bounds_is_a_usage_error_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    home = tmp_path / "home"

    with pytest.raises(SystemExit) as ended:
        main(["init", "--home", str(home), f"{flag}={value}"])

    assert ended.value.code == 2
    assert f"argument {flag}: " in capsys.readouterr().err
    assert not home.exists()


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


def test_each_verb_is_found_without_the_modules_of_others() -> None:
    every = _verbs(parser())

    alone = {name: _verbs(parser(name)) for name in every}

    assert len(every) == 28
    assert all(name in found for name, found in alone.items())
    assert max(map(len, alone.values())) < 8


def test_unknown_verb_is_told_all_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["statis"])

    said = capsys.readouterr().err
    assert all(name in said for name in _verbs(parser()))


def test_status_loads_nothing_that_only_a_serving_coordinator_needs(home: Path) -> None:
    write_status(home, os.getpid())
    code = (
        "import sys; from starling.coordinator.cli.coordinator_command import main; "
        f"main(['status', '--home', {str(home)!r}]); "
        "print(*{'numpy', 'onnxruntime', 'paho', 'sqlite3'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == ""


def _verbs(made: argparse.ArgumentParser) -> set[str]:
    (verbs,) = (
        action.choices
        for action in made._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return set(verbs)
