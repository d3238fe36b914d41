"""The agent's process, started in homes that it cannot run in."""

import subprocess
import sys
from pathlib import Path

from starling.agent.config import AgentConfig
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.protocol.errors import EXIT_CONFIG
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
