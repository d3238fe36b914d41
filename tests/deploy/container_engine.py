"""A docker engine for tests: found, or named as what is missing; with our image."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from starling.fleet.containers.container_list import ContainerRow, devices_of
from starling.fleet.report.receipt_audit import ReceiptAudit
from starling.fleet.runtime.containers.container_fleet import ContainerFleet
from starling.fleet.runtime.containers.docker_engine import (
    DockerEngine,
    DockerRefusal,
)
from starling.fleet.runtime.processes.home_setup import FleetHomes
from starling.fleet.runtime.processes.stored_receipts import compare_receipts
from starling.fleet.runtime.processes.supervisor import child_environment
from starling.protocol.errors import ConfigError, OperationError

ROOT = Path(__file__).parents[2]
IMAGE = "starling:test"
DEADLINE_S = 300.0
_PULL_S = 120.0
_BUILD_S = 1200.0


def require_engine() -> DockerEngine:
    """The engine; without one the test is skipped with the reason."""
    try:
        docker = DockerEngine()
        docker.require_compose()
    except ConfigError as error:
        pytest.skip(f"no fleet in containers: {error}")
    return docker


def require_image(docker: DockerEngine) -> str:
    """An image of this very tree; without a base the test is skipped."""
    version = ".".join(map(str, sys.version_info[:2]))
    base = os.environ.get("BASE") or f"python:{version}-slim"
    try:
        docker.require_image(base)
    except ConfigError:
        try:
            docker.ask("pull", "--quiet", base, timeout_s=_PULL_S)
        except OperationError as error:
            pytest.skip(
                f"no base {base} for the image, see docs/containers.md: {error}"
            )
    settled = ROOT / ".venv" / ".dev"
    command = ["make", "-o", str(settled.relative_to(ROOT)), "image"]
    built = subprocess.run(
        [*command, f"BASE={base}", f"IMAGE_NAME={IMAGE}"],
        cwd=ROOT,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        timeout=_BUILD_S,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return IMAGE


class FleetUnderTest:
    """A fleet of a project of its own, driven by the command as users do."""

    def __init__(self, docker: DockerEngine, devices: int, coordinators: int) -> None:
        self.docker = docker
        self.devices, self.coordinators = devices, coordinators
        self.project = f"starling-test-{os.getpid()}-{devices}"
        self.fleet = ContainerFleet(docker, self.project)

    def starling(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "starling", "fleet", verb, *words]
        return subprocess.run(
            [*command, "--project", self.project, "--json"],
            capture_output=True,
            text=True,
            check=False,
            env=child_environment(),
        )

    def document(self, verb: str, *words: str) -> dict[str, Any]:
        """What a verb that ends well prints."""
        done = self.starling(verb, *words)
        assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def up(self, *more: str, between_s: float = 2.0) -> dict[str, Any]:
        sizes = ["--devices", str(self.devices)]
        sizes += ["--coordinators", str(self.coordinators), "--timeout", "600"]
        sizes += ["--image", IMAGE, "--between", str(between_s)]
        return self.document("up", *sizes, *more)

    def device(self, number: int) -> ContainerRow:
        return devices_of(self.fleet.rows())[number - 1]

    def status(self, number: int) -> dict[str, Any]:
        return self.fleet.device_status(self.device(number))

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        until_s = time.monotonic() + DEADLINE_S
        while not is_so():
            now = self.fleet.progress(self.fleet.rows())
            assert time.monotonic() < until_s, f"not in time: {what}; {now.text}"
            time.sleep(0.5)

    def go_on(self) -> None:
        """Lets the task go on if its guard has it pause, as an operator would."""
        if self.fleet.progress(self.fleet.rows()).pause:
            words = ["starling", "coordinator", "resume-task", "0"]
            words += ["--home", "/srv/fleet/coordinator-1"]
            self.docker.ask("exec", f"{self.project}-coordinator-1-1", *words)

    def wait_for_update(self, number: int, what: str) -> None:
        """Waits until one more update of a device is final."""

        def final() -> int:
            found: int = self.status(number).get("outcomes", {}).get("final", 0)
            return found

        before = final()

        def is_more() -> bool:
            self.go_on()
            return final() > before

        self.wait(is_more, what)

    def coordinator(self, number: int = 1) -> dict[str, Any]:
        """What a coordinator says of itself."""
        path = f"/srv/fleet/coordinator-{number}/status.json"
        name = f"{self.project}-coordinator-{number}-1"
        found = self.docker.document("exec", name, "cat", path)
        assert found is not None
        return found

    def audit(self, folder: Path) -> ReceiptAudit:
        """Stops the fleet and compares what devices hold with every chain."""
        for service in ("device", "coordinator", "broker"):
            rows = [each for each in self.fleet.rows() if service in each.service]
            names = [each.name for each in rows if each.state == "running"]
            self.docker.ask("stop", "--time", "20", *names, timeout_s=DEADLINE_S)
        homes = FleetHomes(folder)
        for number in range(self.devices):
            home = homes.board(number)
            home.mkdir(parents=True)
            device = f"{self.project}-device-{number + 1}:/var/lib/starling/home"
            for name in ("proofs", "status.json"):
                self._copy(f"{device}/{name}", home)
        for number in range(1, self.coordinators + 1):
            home = homes.coordinator_at(number)
            home.mkdir(parents=True)
            coordinator = f"{self.project}-coordinator-{number}"
            self._copy(f"{coordinator}-1:/srv/fleet/coordinator-{number}/state", home)
        return compare_receipts(homes, self.devices, self.coordinators)

    def remove(self) -> None:
        done = self.starling("down", "--volumes")
        assert done.returncode == 0, done.stderr
        assert self.fleet.rows() == ()
        for kind in ("network", "volume"):
            listed = self.docker.ask(
                kind, "ls", "--quiet", "--filter", f"name={self.project}_"
            )
            assert listed == "", f"{kind} left behind"

    def _copy(self, source: str, to: Path) -> None:
        try:
            self.docker.ask("cp", source, str(to), timeout_s=DEADLINE_S)
        except DockerRefusal as error:
            # A device without a proof yet has no folder of them.
            if "proofs" not in source or "no such file" not in error.words.lower():
                raise
