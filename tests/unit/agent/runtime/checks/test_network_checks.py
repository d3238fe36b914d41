"""Each fault on the way to the broker is named by the step at which it shows."""

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from starling.agent.runtime.checks.network_checks import (
    BrokerPlace,
    network_checks,
)
from starling.broker.health_checks import HealthCheck, Verdict
from starling.broker.link_events import LinkSettings, TlsFiles
from starling.broker.runtime.certificate_authority import CertificateAuthority
from starling.broker.runtime.mosquitto_process import free_port
from starling.broker.runtime.tls_key import write_tls_key
from starling.protocol.wire.topics import Topics

HOST = "127.0.0.1"
BOARD = "board"


@dataclass(frozen=True)
class Party:
    """A key and its certificate."""

    key: Path
    certificate: Path


class Fleet:
    """An authority, and certificates of it that end when a test wants."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.pem = folder / "authority.pem"
        self.authority = CertificateAuthority.create(
            folder / "authority.key", self.pem, "test"
        )

    def party(self, name: str, hosts: tuple[str, ...] = (), days: int = 90) -> Party:
        key, certificate = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        public = write_tls_key(key, os.urandom(32))
        issued = (
            self.authority.issue_server(hosts, public, days)
            if hosts
            else self.authority.issue(name, public, days)
        )
        certificate.write_bytes(issued)
        return Party(key, certificate)


class Listener:
    """Takes one connection; speaks TLS as a broker does, or something else."""

    def __init__(self, answer: "Server | bytes") -> None:
        self.socket = socket.create_server((HOST, 0))
        self.port: int = self.socket.getsockname()[1]
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            way, _ = self.socket.accept()
            with way:
                if isinstance(self._answer, bytes):
                    way.sendall(self._answer)
                    way.recv(4096)
                    return
                with self._answer.context().wrap_socket(way, server_side=True) as tls:
                    tls.recv(4096)

    def close(self) -> None:
        self.socket.close()
        self._thread.join(10.0)


@dataclass(frozen=True)
class Server:
    """What a TLS server is made of."""

    party: Party
    trusted: Path

    def context(self) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.party.certificate, self.party.key)
        made.load_verify_locations(self.trusted)
        made.verify_mode = ssl.CERT_REQUIRED
        return made


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    made: list[Listener] = []
    yield made
    for each in made:
        each.close()


def place(fleet: Fleet, port: int, host: str = HOST, days: int = 90) -> BrokerPlace:
    board = fleet.party(BOARD, days=days)
    files = TlsFiles(fleet.pem, board.certificate, board.key)
    return BrokerPlace(LinkSettings(host, port, BOARD, files), Topics("meadow"))


def rows(where: BrokerPlace) -> dict[str, HealthCheck]:
    found = list(network_checks(where, time.time(), runs=True))
    assert len({row.name for row in found}) == len(found)
    return {row.name: row for row in found}


def last(where: BrokerPlace) -> HealthCheck:
    return list(rows(where).values())[-1]


def test_way_that_is_open_is_told_step_by_step(
    fleet: Fleet, listeners: list[Listener]
) -> None:
    server = Server(fleet.party("server", (HOST, "broker.example")), fleet.pem)
    listeners.append(Listener(server))

    found = rows(place(fleet, listeners[0].port))

    assert list(found) == [
        "net.dns",
        "net.tcp",
        "tls.handshake",
        "tls.broker-names",
        "tls.broker-expiry",
        "mqtt.acl-write-own",
    ]
    assert {row.verdict for row in found.values()} == {Verdict.OK}
    assert "broker.example" in found["tls.broker-names"].found
    assert "ends in 90 days" in found["tls.broker-expiry"].found


def test_certificate_that_ends_soon_is_a_warning(
    fleet: Fleet, listeners: list[Listener]
) -> None:
    server = Server(fleet.party("server", (HOST,), days=10), fleet.pem)
    listeners.append(Listener(server))

    row = rows(place(fleet, listeners[0].port))["tls.broker-expiry"]

    assert (row.verdict, "ends in 10 days" in row.found) == (Verdict.WARN, True)


def test_name_that_nobody_knows_ends_at_the_names(fleet: Fleet) -> None:
    row = last(place(fleet, 1, host="broker.invalid"))

    assert (row.name, row.verdict) == ("net.dns", Verdict.FAIL)
    assert row.found.startswith("broker.invalid: ")
    assert "resolv.conf" in row.fix


def test_port_that_nobody_listens_on_is_named_with_its_address(fleet: Fleet) -> None:
    port = free_port()

    row = last(place(fleet, port))

    assert (row.name, row.verdict) == ("net.tcp", Verdict.FAIL)
    assert row.found == f"{HOST}:{port}: Connection refused"


@pytest.mark.parametrize(
    ("hosts", "server_days", "board_days", "found", "fix"),
    [
        (("other.example",), 90, 90, f"{HOST} does not stand in", f"--host {HOST}"),
        ((HOST,), -1, 90, "broker's certificate has expired", "broker run"),
        ((HOST,), 90, -1, "our certificate has expired", "admit"),
    ],
    ids=["another name", "the broker's expired", "the board's expired"],
)
def test_certificate_that_is_not_taken_is_told_whose_it_is(
    fleet: Fleet,
    listeners: list[Listener],
    hosts: tuple[str, ...],
    server_days: int,
    board_days: int,
    found: str,
    fix: str,
) -> None:
    server = Server(fleet.party("server", hosts, server_days), fleet.pem)
    listeners.append(Listener(server))

    row = last(place(fleet, listeners[0].port, days=board_days))

    assert (row.name, row.verdict) == ("tls.handshake", Verdict.FAIL)
    assert row.found.startswith(f"{HOST}:{listeners[0].port}: ")
    assert found in row.found
    assert fix in row.fix


def test_broker_of_another_authority_is_told_from_an_expired_one(
    fleet: Fleet, listeners: list[Listener], tmp_path: Path
) -> None:
    other = Fleet(tmp_path / "other")
    listeners.append(Listener(Server(other.party("server", (HOST,)), fleet.pem)))

    row = last(place(fleet, listeners[0].port))

    assert row.name == "tls.handshake"
    assert "not of the authority that is pinned here" in row.found
    assert "enrol" in row.fix


def test_board_of_another_authority_is_told_that_it_is_refused(
    fleet: Fleet, listeners: list[Listener], tmp_path: Path
) -> None:
    other = Fleet(tmp_path / "other")
    server = Server(fleet.party("server", (HOST,)), other.pem)
    listeners.append(Listener(server))

    row = last(place(fleet, listeners[0].port))

    assert row.name == "tls.handshake"
    assert "the broker refuses our certificate: unknown ca" in row.found


def test_port_that_does_not_speak_tls_is_told_as_that(
    fleet: Fleet, listeners: list[Listener]
) -> None:
    listeners.append(Listener(b"SSH-2.0-OpenSSH_9.2p1\r\n"))

    row = last(place(fleet, listeners[0].port))

    assert row.name == "tls.handshake"
    assert "does not speak TLS" in row.found
    assert "broker.port" in row.fix


def test_key_that_is_missing_needs_no_broker(
    fleet: Fleet, listeners: list[Listener], tmp_path: Path
) -> None:
    server = Server(fleet.party("server", (HOST,)), fleet.pem)
    listeners.append(Listener(server))
    where = place(fleet, listeners[0].port)
    files = where.settings.tls
    assert isinstance(files, TlsFiles)
    gone = replace(files, key=tmp_path / "gone.pem")

    row = last(replace(where, settings=replace(where.settings, tls=gone)))

    assert (row.name, row.verdict) == ("tls.handshake", Verdict.FAIL)
    assert "enrol" in row.fix
