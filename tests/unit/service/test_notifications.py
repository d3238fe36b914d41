"""The service manager hears what a service says, at a real socket."""

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from starling.service.notifications import ServiceNotifier

WATCHDOG_S = 30.0


class Manager:
    """The manager's side: a datagram socket at a path or in the abstract space."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self) -> list[str]:
        """All that was said since the last call."""
        said = []
        while True:
            try:
                said.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return said


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    in_space = f"@starling-test-{secrets.token_hex(8)}"
    address = str(tmp_path / "notify") if request.param == "path" else in_space
    listening = Manager(address)
    yield listening
    listening.socket.close()


def test_life_of_a_service_is_told_in_order(manager: Manager) -> None:
    notifier = ServiceNotifier(manager.address)

    notifier.ready("not yet connected")
    notifier.status("training")
    notifier.stopping()

    assert manager.heard() == [
        "READY=1\nSTATUS=not yet connected",
        "STATUS=training",
        "STOPPING=1",
    ]


def test_same_status_is_not_told_twice_in_a_row(manager: Manager) -> None:
    notifier = ServiceNotifier(manager.address)

    notifier.ready("a")
    for text in ("a", "b", "b", "a"):
        notifier.status(text)

    assert manager.heard() == ["READY=1\nSTATUS=a", "STATUS=b", "STATUS=a"]


def test_status_cannot_smuggle_a_second_assignment(manager: Manager) -> None:
    ServiceNotifier(manager.address).status("disk full\nREADY=1" + "x" * 500)

    (said,) = manager.heard()
    assert said.startswith("STATUS=disk full READY=1xxx")
    assert "\n" not in said
    assert len(said) <= len("STATUS=") + 200


def test_watchdog_is_fed_twice_in_a_period_and_no_more(manager: Manager) -> None:
    notifier = ServiceNotifier(manager.address, WATCHDOG_S)

    moments = [0.0, 1.0, 14.9, 15.0, 16.0, 29.0, 30.0]
    fed = []
    for now_s in moments:
        notifier.feed(now_s)
        fed += [(now_s, said) for said in manager.heard()]

    assert fed == [(0.0, "WATCHDOG=1"), (15.0, "WATCHDOG=1"), (30.0, "WATCHDOG=1")]
    assert notifier.due_s == 45.0


def test_without_a_watchdog_nothing_is_due(manager: Manager) -> None:
    notifier = ServiceNotifier(manager.address)

    notifier.feed(1e9)

    assert notifier.due_s == float("inf")
    assert manager.heard() == []


@pytest.mark.parametrize(
    ("pid", "due_s"),
    [("", 0.0), (str(os.getpid()), 0.0), (str(os.getpid() + 1), float("inf"))],
    ids=["unsaid", "ours", "another's"],
)
def test_environment_is_taken_and_not_left_to_children(pid: str, due_s: float) -> None:
    environment = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "30000000"}
    if pid:
        environment["WATCHDOG_PID"] = pid

    notifier = ServiceNotifier.from_environment(environment)

    assert environment == {}
    assert notifier.due_s == due_s


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "30000000"},
        {"NOTIFY_SOCKET": "relative", "WATCHDOG_USEC": "30000000"},
        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "soon"},
    ],
    ids=["nothing", "no socket", "odd socket", "odd period"],
)
def test_without_a_manager_nothing_is_due(environment: dict[str, str]) -> None:
    assert ServiceNotifier.from_environment(environment).due_s == float("inf")


def test_manager_that_is_gone_or_full_stops_nobody(tmp_path: Path) -> None:
    ServiceNotifier(str(tmp_path / "nobody")).ready("all is well")
    full = Manager(str(tmp_path / "full"))
    notifier = ServiceNotifier(full.address)

    for number in range(10_000):
        notifier.status(str(number))

    assert 0 < len(full.heard()) < 10_000
    full.socket.close()
