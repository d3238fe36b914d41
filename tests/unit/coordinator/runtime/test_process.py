"""The coordinator's process, started in homes that it cannot run in."""

import subprocess
import sys
from pathlib import Path

from starling.broker.broker_settings import BrokerSettings
from starling.coordinator.config import CoordinatorConfig
from starling.protocol.errors import EXIT_CONFIG
from starling.protocol.schema.toml_settings import sample
from tests.unit.coordinator.cli.verbs.test_boards_and_tasks import fleet


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "starling",
        "coordinator",
        "run",
        "--home",
        str(home),
        *words,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_keys_of_a_later_release_are_named_before_anything_else(tmp_path: Path) -> None:
    later = sample(CoordinatorConfig, {"config_version": 9}) + "[mesh]\nhops = 2\n"
    (tmp_path / "coordinator.toml").write_text(later)

    done = run(tmp_path)

    assert "of a later release; ignored: mesh" in done.stderr
    # It went on, to the next thing that this home has not.
    assert "keys/signing: missing" in done.stderr
    assert done.returncode == EXIT_CONFIG
    assert "unknown key" not in done.stderr


def test_unknown_key_of_this_release_is_refused(tmp_path: Path) -> None:
    (tmp_path / "coordinator.toml").write_text(sample(CoordinatorConfig) + "[mesh]\n")

    done = run(tmp_path)

    assert done.returncode == EXIT_CONFIG
    assert "mesh: unknown key" in done.stderr
    assert "later release" not in done.stderr


def test_nothing_is_begun_beside_it_before_all_settings_are_right(
    tmp_path: Path,
) -> None:
    home = fleet(tmp_path, BrokerSettings("meadow", "127.0.0.1"))
    text = home.settings_file.read_text()
    assert 'data = ""' in text
    home.settings_file.write_text(text.replace('data = ""', 'data = "no.npz"', 1))

    done = run(home.path, "--web", "0")

    assert done.returncode == EXIT_CONFIG
    assert done.stderr.count("\n") == 1
    assert "no.npz: evaluation.data" in done.stderr
    # A console says first of all where it is.
    assert not done.stdout
