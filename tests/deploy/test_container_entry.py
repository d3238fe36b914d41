"""The containers' script, run without containers: a fleet learns from it."""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.runtime.mosquitto_process import free_port
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e
PACKAGING = Path(__file__).parents[2] / "packaging" / "docker"
DEADLINE_S = 180.0


class ContainerFleet:
    """The script's parts as processes, with the folders that containers would have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        program = programs / "starling"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m starling "$@"\n')
        program.chmod(0o755)
        for name in ("fleet", "enrolment"):
            (folder / name).mkdir()
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "FLEET_DIR": str(folder / "fleet"),
            "ENROLMENT_DIR": str(folder / "enrolment"),
            "TASK_DIR": str(folder / "task"),
            "BROKER_HOST": "127.0.0.1",
            "BROKER_PORT": str(free_port()),
            "ENROL_PORT": str(free_port()),
            "PYTHON": sys.executable,
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def do(self, *words: str) -> None:
        command = ["/bin/sh", str(PACKAGING / "entry.sh"), *words]
        subprocess.run(command, env=self.environment, check=True)

    def start(self, *words: str, **more: str) -> None:
        with (self.folder / "log").open("ab") as log:
            self.running.append(
                subprocess.Popen(
                    ["/bin/sh", str(PACKAGING / "entry.sh"), *words],
                    env={**self.environment, **more},
                    stdout=log,
                    stderr=log,
                )
            )

    def version(self) -> int:
        """Newest version of the board that is ahead."""
        shown = self.folder.glob("[ab]/home/status.json")
        found = [json.loads(path.read_text()).get("version") or 0 for path in shown]
        return max(found, default=0)

    def stop(self) -> list[int]:
        for process in reversed(self.running):
            process.terminate()
        return [process.wait(DEADLINE_S) for process in self.running]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[ContainerFleet]:
    require_mosquitto()
    made = ContainerFleet(tmp_path)
    subprocess.run(
        [sys.executable, str(PACKAGING / "demo_task.py"), str(tmp_path / "task")],
        check=True,
    )
    yield made
    made.stop()


def test_parts_of_the_script_make_a_fleet_that_learns(fleet: ContainerFleet) -> None:
    # A container that is made anew finds what is there.
    for _ in range(2):
        fleet.do("setup")
    fleet.start("broker")
    fleet.start("coordinator", "1")
    for name in ("a", "b"):
        fleet.start("device", DEVICE_DIR=str(fleet.folder / name))

    until_s = time.monotonic() + DEADLINE_S
    while fleet.version() < 1 and time.monotonic() < until_s:
        time.sleep(0.1)
    ended = fleet.stop()
    fleet.running.clear()

    assert fleet.version() >= 1, (fleet.folder / "log").read_text()[-4000:]
    homes = [fleet.folder / name / "home" for name in ("a", "b")]
    one, other = [(home / "data" / "shard.npz").read_bytes() for home in homes]
    assert one != other
    # A pledge of a few records would drown what is learned in noise.
    task = tomllib.loads((fleet.folder / "task" / "task.toml").read_text())
    for home in homes:
        with np.load(home / "data" / "shard.npz") as shard:
            assert len(shard["y"]) / 1.2 < task["pledge_most"] <= len(shard["y"])
        assert task["pledge_most"] == AgentHome(home).config().data.pledge
    assert ended == [0] * 4


def modules_run() -> list[str]:
    """Modules of ours that the image's script has Python run."""
    return re.findall(r"-m (starling\.[\w.]+)", (PACKAGING / "entry.sh").read_text())


def pinned(name: str) -> set[str]:
    text = (PACKAGING.parents[1] / "requirements" / f"{name}.txt").read_text()
    return {found.lower() for found in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}


@pytest.mark.parametrize("module", modules_run())
def test_module_that_the_image_runs_needs_what_a_coordinator_needs(module: str) -> None:
    missing = pinned("fleet") - pinned("coordinator")
    away = [
        package
        for package, names in metadata.packages_distributions().items()
        if {name.lower() for name in names} <= missing
    ]
    code = (
        "import importlib, sys; "
        f"sys.modules.update(dict.fromkeys({away!r})); "
        f"importlib.import_module({module!r})"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert "onnx" in away
    assert done.returncode == 0, done.stderr
