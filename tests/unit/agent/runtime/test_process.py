"""The agent's process, started in homes that it cannot run in."""

import subprocess
import sys
from pathlib import Path

import pytest

from starling.agent.config import AgentConfig
from starling.agent.runtime import machine_info
from starling.agent.runtime.assembly import board_profile
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.protocol.errors import EXIT_CONFIG, ConfigError, StorageError
from starling.protocol.schema.toml_settings import sample


def run(home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "starling", "agent", "run", "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_keys_of_a_later_release_are_named_before_anything_else(tmp_path: Path) -> None:
    home = AgentHome(tmp_path)
    home.begin({"config_version": 9})
    with home.config_file.open("a") as config:
        config.write("[mesh]\nhops = 2\n")

    done = run(tmp_path)

    assert "of a later release; ignored: mesh" in done.stderr
    # It went on, to the next thing that this home has not.
    assert "enrol" in done.stderr
    assert done.returncode == EXIT_CONFIG
    assert "unknown key" not in done.stderr


def test_unknown_key_of_this_release_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(sample(AgentConfig) + "[mesh]\n")

    done = run(tmp_path)

    assert done.returncode == EXIT_CONFIG
    assert "mesh: unknown key" in done.stderr
    assert "later release" not in done.stderr


@pytest.mark.parametrize("name", ["models", "spool", "state"])
def test_home_that_lacks_a_folder_pays_nothing_and_says_how_to_go_on(
    tmp_path: Path, name: str
) -> None:
    home = AgentHome(tmp_path)
    home.begin({})
    (tmp_path / name).rmdir()

    done = run(tmp_path)

    assert done.returncode == EXIT_CONFIG
    remedy = f"starling agent init --home {tmp_path}"
    assert done.stderr.startswith(f"starling agent: {tmp_path / name}: missing; ")
    assert done.stderr.endswith(f"run: {remedy}\n")
    home.begin({})
    home.require_folders()


@pytest.mark.parametrize("name", ["models", "spool", "state"])
def test_folder_that_cannot_be_written_is_told_before_anything_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    home = AgentHome(tmp_path)
    home.begin({})
    # Root may write everywhere.
    access = "starling.durable.files.os.access"
    monkeypatch.setattr(access, lambda path, _mode: path.name != name)

    with pytest.raises(StorageError, match="Permission denied; run as") as caught:
        home.require_folders()

    assert str(caught.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"training.board": "abacus"}, "training.board: no board profile 'abacus'"),
        ({"training.engine": "ort-training"}, "training.engine: needs the wheel onnxr"),
    ],
)
def test_setting_that_this_machine_lacks_is_named_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    monkeypatch.setattr(machine_info, "has_training_engine", lambda: False)
    home = AgentHome(tmp_path)
    home.begin(settings)

    with pytest.raises(ConfigError) as caught:
        board_profile(home, home.config())

    assert str(caught.value).startswith(f"{home.config_file}: {said}")
