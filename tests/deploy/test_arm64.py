"""A board of arm64, emulated: its update is accepted, its sums are the same bits."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.emulated_arm64 import emulated_python, install_agent
from tests.e2e.agent.test_agent_process import RealCoordinator
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.machine
REPLAY = Path(__file__).parent / "replayed_versions.py"
BOARD = "board1"
DEADLINE_S = 600.0
"""Emulation takes half a minute to load ONNX Runtime alone."""


class EmulatedBoard(RealCoordinator):
    """Broker, coordinator and board0 of this machine; board1 of arm64."""

    def __init__(self, folder: Path, python: Path, site: Path) -> None:
        super().__init__(folder)
        self.deadline_s = DEADLINE_S
        self.python = python
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(site),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ORT_DISABLE_TELEMETRY": "1",
        }

    def emulated(self, *words: str | Path) -> str:
        """Output of the emulated interpreter."""
        done = subprocess.run(
            [str(self.python), *map(str, words)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def do(self, *words: str | Path) -> None:
        if words[0] == "agent" and str(self.home(BOARD)) in map(str, words):
            self.emulated("-m", "starling", *words)
        else:
            super().do(*words)

    def start(self, name: str) -> None:
        if name != BOARD:
            super().start(name)
            return
        words = ("-m", "starling", "agent", "run", "--home", str(self.home(name)))
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [str(self.python), *words],
                env=self.environment,
                stdout=log,
                stderr=log,
            )


@pytest.fixture
def meadow(tmp_path: Path) -> Iterator[EmulatedBoard]:
    require_mosquitto()
    python = emulated_python(tmp_path)
    shown = "import sys; print('%d.%d' % sys.version_info[:2])"
    said = subprocess.run(
        [str(python), "-c", shown], capture_output=True, text=True, check=True
    )
    site = install_agent(tmp_path, said.stdout.strip())
    found = EmulatedBoard(tmp_path, python, site)
    found.found(2)
    for name in ("broker", "coordinator", "board0", BOARD):
        found.start(name)
    yield found
    found.stop()


def test_board_of_arm64_takes_part_and_computes_the_same_model(
    meadow: EmulatedBoard,
) -> None:
    meadow.wait(
        "a final update of the emulated board",
        lambda: meadow.status(BOARD).get("outcomes", {}).get("final", 0) >= 1,
    )
    for name in (BOARD, "board0", "coordinator"):
        assert meadow.end(name, signal.SIGTERM) == 0
    home = meadow.home("coordinator")

    here = subprocess.run(
        [sys.executable, str(REPLAY), str(home)],
        capture_output=True,
        text=True,
        check=True,
    )
    there = json.loads(meadow.emulated(REPLAY, home))
    assert there["machine"] == "aarch64"
    assert there["exact"] == json.loads(here.stdout)["exact"]
    assert there["exact"]
    assert all(there["exact"].values())
