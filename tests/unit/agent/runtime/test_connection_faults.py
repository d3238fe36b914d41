"""A fault on the way to the broker, as a running agent's log, status and check say it.

The same fault has to be named by all three: whoever looks at one of them is not sent
anywhere else by the others.
"""

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from starling import __main__ as starling
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.runtime.mosquitto_process import free_port
from starling.protocol.chain.enrolment import Admission, request_from_json
from starling.protocol.errors import EXIT_FAILED
from starling.protocol.ids import device_name
from tests.e2e.deadline import DEADLINE_S
from tests.unit.agent.runtime.checks.test_network_checks import Fleet, Server
from tests.vectors.protocol_samples import GENESIS

HOST = "127.0.0.1"
Answer = Callable[[socket.socket], None]


class Other:
    """What listens in the broker's place, for as many connections as come."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._socket = socket.create_server((HOST, 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                way, _ = self._socket.accept()
                threading.Thread(target=self._meet, args=(way,), daemon=True).start()

    def _meet(self, way: socket.socket) -> None:
        with way, suppress(OSError):
            way.settimeout(DEADLINE_S)
            self._answer(way)

    def close(self) -> None:
        self._socket.close()


def banner(way: socket.socket) -> None:
    way.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    way.recv(4096)


def tls(server: Server) -> Answer:
    def answer(way: socket.socket) -> None:
        with suppress(ssl.SSLError), server.context().wrap_socket(way, True) as secure:
            secure.recv(4096)

    return answer


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def others() -> Iterator[list[Other]]:
    made: list[Other] = []
    yield made
    for each in made:
        each.close()


def enrolled(fleet: Fleet, path: Path, port: int) -> AgentHome:
    home = AgentHome(path)
    home.begin({})
    request = request_from_json(home.write_request().read_bytes())
    name, key = device_name(request.device), request.tls_public_key
    certificate = fleet.authority.issue(name, key).decode()
    authority = fleet.pem.read_text()
    made = Admission(request.device, GENESIS, HOST, port, authority, certificate)
    (path / "given.json").write_text(made.to_json())
    home.accept(path / "given.json", replace=False)
    return home


def told(
    home: AgentHome, capsys: pytest.CaptureFixture[str], said: str
) -> dict[str, Any]:
    """Status of the running agent once it has met the fault, and not a slow machine."""
    until_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < until_s:
        words = ["agent", "status", "--home", str(home.path), "--json"]
        code = starling.main(words)
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        if said in str(document.get("broker_said")):
            assert code == EXIT_FAILED
            return document
        time.sleep(0.1)
    pytest.fail("the agent said nothing of its broker")


def checked(
    home: AgentHome, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> dict[str, Any]:
    """Rows of the check, likewise."""
    rows: dict[str, Any] = {}
    until_s = time.monotonic() + DEADLINE_S
    words = ["agent", "check", "--home", str(home.path), "--json", "--without-data"]
    while time.monotonic() < until_s:
        assert starling.main(words) == EXIT_FAILED
        found = json.loads(capsys.readouterr().out)["checks"]
        rows = {row["name"]: row for row in found}
        if name in rows and said in rows[name]["found"]:
            return rows
    pytest.fail(f"the check found no such fault: {rows}")


@pytest.mark.parametrize(
    ("fault", "row", "said"),
    [
        ("nobody", "net.tcp", "Connection refused"),
        ("no TLS", "tls.handshake", "does not speak TLS"),
        ("other name", "tls.handshake", f"{HOST} does not stand in the broker's"),
        ("other authority", "tls.handshake", "not of the authority that is pinned"),
        ("refused", "tls.handshake", "the broker refuses our certificate: unknown ca"),
        ("expired", "tls.handshake", "the broker's certificate has expired"),
    ],
)
def test_fault_is_named_alike_by_log_status_and_check(
    fleet: Fleet,
    others: list[Other],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    row: str,
    said: str,
) -> None:
    stranger = Fleet(tmp_path / "stranger")
    hosts = ("other.example",) if fault == "other name" else (HOST,)
    issuer = stranger if fault == "other authority" else fleet
    trusted = stranger if fault == "refused" else fleet
    party = issuer.party("server", hosts, -1 if fault == "expired" else 90)
    if fault != "nobody":
        answer = banner if fault == "no TLS" else tls(Server(party, trusted.pem))
        others.append(Other(answer))
    port = others[0].port if others else free_port()
    home = enrolled(fleet, tmp_path / "home", port)
    command = [sys.executable, "-m", "starling", "agent", "run", "--home"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        agent = subprocess.Popen([*command, str(home.path)], stderr=output)
    try:
        status = told(home, capsys, said)
        rows = checked(home, capsys, row, said)
    finally:
        agent.terminate()
        agent.wait(DEADLINE_S)

    assert status["condition"] == "broker away"
    assert status["next_action"] == "run: starling agent check"
    assert f"{HOST}:{port}: " in status["broker_said"]
    warned = [line for line in log.read_text().splitlines() if said in line]
    assert warned
    assert all(" WARNING agent: broker away: " in line for line in warned)
    assert rows[row]["verdict"] == "fail"
    assert rows[row]["fix"]
    assert rows["agent.condition"]["found"].startswith("broker away")
