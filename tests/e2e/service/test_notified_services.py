"""Agent, coordinator and broker tell a service manager that they live."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent.test_agent_process import RealCoordinator
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e
WATCHDOG_USEC = 200_000


@pytest.fixture(scope="module")
def meadow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCoordinator]:
    require_mosquitto()
    made = RealCoordinator(tmp_path_factory.mktemp("meadow"))
    made.found(1)
    yield made
    made.stop()


def heard_until(manager: socket.socket, wanted: str) -> list[str]:
    """What is said up to a datagram that has the wanted line in it."""
    said: list[str] = []
    while not said or wanted not in said[-1].splitlines():
        said.append(manager.recv(4096).decode())
    return said


@pytest.mark.parametrize("name", ["broker", "coordinator", "board0"])
def test_service_is_ready_then_feeds_the_watchdog_then_stops(
    meadow: RealCoordinator, name: str, tmp_path: Path
) -> None:
    address = tmp_path / "notify"
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": str(address),
        "WATCHDOG_USEC": str(WATCHDOG_USEC),
    }
    part = name if name in {"broker", "coordinator"} else "agent"
    command = [sys.executable, "-m", "starling", part, "run", "--home"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(DEADLINE_S)
        manager.bind(str(address))
        with subprocess.Popen(
            [*command, str(meadow.home(name))],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as service:
            first = manager.recv(4096).decode()
            heard_until(manager, "WATCHDOG=1")
            heard_until(manager, "WATCHDOG=1")
            service.send_signal(signal.SIGTERM)
            heard_until(manager, "STOPPING=1")
            service.communicate(timeout=DEADLINE_S)

    assert first.startswith("READY=1\nSTATUS=")
    assert service.returncode == 0
