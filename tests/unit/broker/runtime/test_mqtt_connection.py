"""How one connection's end is told when the broker ended it before it answered."""

import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from starling.broker.link_events import LinkSettings, TlsFiles
from starling.broker.runtime.certificate_authority import CertificateAuthority
from starling.broker.runtime.mqtt_connection import MqttConnection
from starling.broker.runtime.tls_key import write_tls_key
from starling.protocol.crypto.keys import SigningKey

REFUSED = b"\x20\x03\x00\x87\x00"
TAKEN_OVER = b"\x20\x03\x00\x00\x00\xe0\x02\x8e\x00"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
KEY = SigningKey(bytes(32))


class Refusing:
    """A TLS server that takes no client's certificate, and hangs up."""

    def __init__(self, folder: Path) -> None:
        authority = CertificateAuthority.create(
            folder / "ca.key", folder / "ca.pem", "test"
        )
        other = CertificateAuthority.create(
            folder / "other.key", folder / "other.pem", "test"
        )
        (folder / "server.pem").write_bytes(
            authority.issue_server(("localhost",), KEY.public)
        )
        (folder / "client.pem").write_bytes(other.issue("ann", KEY.public))
        write_tls_key(folder / "key", KEY.seed)
        self.files = TlsFiles(folder / "ca.pem", folder / "client.pem", folder / "key")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "server.pem", folder / "key")
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_verify_locations(folder / "ca.pem")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        came, _ = self._listener.accept()
        with came, pytest.raises(ssl.SSLError):
            self._context.wrap_socket(came, server_side=True)

    def hang_up(self) -> None:
        """Waits until the one client was refused."""
        self._thread.join(60)
        self._listener.close()


@contextmanager
def broker_that_says(said: bytes) -> Iterator[tuple[MqttConnection, socket.socket]]:
    """A connection without TLS, and the socket of a broker that has said something."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = LinkSettings("127.0.0.1", listener.getsockname()[1], "ann")
        connection = MqttConnection(settings, None, 1, print, print)
        came, _ = listener.accept()
        came.sendall(said)
        yield connection, came


def turn(connection: MqttConnection, ready: int) -> None:
    for _ in range(10):
        if connection.alive:
            connection.turn(ready)


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Refusing]:
    server = Refusing(tmp_path)
    yield server
    server.hang_up()


@pytest.mark.parametrize("ready", [READ, READ | WRITE, WRITE])
def test_refused_certificate_is_told_whatever_is_done_first(
    refusing: Refusing, ready: int
) -> None:
    settings = LinkSettings("localhost", refusing.port, "ann", refusing.files)
    connection = MqttConnection(settings, None, 1, print, print)
    refusing.hang_up()

    for _ in range(10):
        if connection.alive:
            connection.turn(ready)

    assert not connection.alive
    assert "the broker refuses our certificate: unknown ca" in connection.reason
    assert "admit" in connection.reason


@pytest.mark.parametrize("ready", [READ, READ | WRITE, WRITE])
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (REFUSED, "refused by the broker: Not authorized"),
        (TAKEN_OVER, "ended by the broker: Session taken over"),
        (b"", "connection lost"),
    ],
)
def test_last_word_of_the_broker_is_heard_whatever_is_done_first(
    ready: int, said: bytes, reason: str
) -> None:
    with broker_that_says(said) as (connection, came):
        came.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        came.close()

        turn(connection, ready)

    assert not connection.alive
    assert connection.reason == reason


@pytest.mark.parametrize(
    "said",
    [
        b"\x20\x03\x00\x55\x00",
        b"\x20\x02\x00\x00",
        b"\x20\x05\x00\x00\x02\x7f\x01",
        b"\x20\x03\x00\x00\x00\x90\x04\x00\x01\x00\x55",
        b"\x20\x03\x00\x00\x00\x40\x03\x00\x01\x55",
        b"\x20\x03\x00\x00\x00\x30\x03\x00\x05a",
        b"\x20\x03\x00\x00\x00\xe0\x01\x55",
    ],
    ids=["reason", "short", "property", "suback", "puback", "topic", "disconnect"],
)
def test_packet_that_is_no_mqtt_ends_the_connection_and_nothing_else(
    said: bytes,
) -> None:
    with broker_that_says(said) as (connection, came):
        turn(connection, READ)
        came.close()
        turn(connection, READ)

    assert not connection.alive
    assert connection.reason
