"""Certificates renewed over real links, at a real Mosquitto, while all goes on."""

import random
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from starling.broker.backoff import BackoffPolicy
from starling.broker.broker_settings import CHECKER, LOCAL_HOSTS, BrokerSettings
from starling.broker.certificate_reader import DAY_S, days_left, end_s
from starling.broker.health_checks import Verdict
from starling.broker.link_events import (
    NO_SUBSCRIBER,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    LinkSettings,
    TlsFiles,
    renewal_topics,
)
from starling.broker.runtime.broker_check import check_broker
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mosquitto_process import free_port
from starling.broker.runtime.tls_key import write_tls_key
from starling.coordinator.runtime.enrolment.registrar_threads import registrar_beside
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import GenesisOptions, found
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.wire.topics import Topics
from tests.e2e.conftest import RecordedLink
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e

TOPICS = Topics("meadow")
HOST = LOCAL_HOSTS[0]
PEER = "peer"


class Fleet:
    """A running broker, and a coordinator's folder beside it that may answer."""

    def __init__(self, path: Path) -> None:
        self.stack = ExitStack()
        self.broker = BrokerHome(path / "broker")
        self.port = free_port()
        self.broker.prepare(BrokerSettings("meadow", HOST, self.port, peers=(PEER,)))
        self.home = CoordinatorHome(path / "north")
        found(self.home, GenesisOptions("meadow", self.broker.path, "", 0, 10))
        self.process = self.broker.process()
        self.stack.enter_context(self.process)
        self._path = path

    def answers(self) -> None:
        """Starts the registrar."""
        self.stack.enter_context(registrar_beside(self.home))

    def files(self, days: int) -> TlsFiles:
        """Of a peer whose certificate has so many days left."""
        key = self._path / "peer.key"
        public = write_tls_key(key, b"p" * 32)
        certificate = self._path / "peer.pem"
        issued = self.broker.certificates.authority().issue(PEER, public, days)
        certificate.write_bytes(issued)
        return TlsFiles(self.broker.authority_certificate, certificate, key)

    def link(self, files: TlsFiles) -> RecordedLink:
        """Of that peer, begun."""
        recorded = RecordedLink(
            LinkSettings(
                HOST,
                self.port,
                PEER,
                files,
                backoff=BackoffPolicy(first_s=0.05, most_s=0.2),
                renewal=renewal_topics(TOPICS, PEER),
            )
        )
        self.stack.callback(recorded.link.stop, 1.0)
        recorded.link.start()
        return recorded


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    require_mosquitto()
    made = Fleet(tmp_path)
    with made.stack:
        yield made


def until_renewed(files: TlsFiles) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while days_left(files.certificate.read_text(), time.time()) < 800:
        assert time.monotonic() < deadline_s, "not renewed"
        time.sleep(0.05)


def until_asked(fleet: Fleet) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while PEER not in fleet.broker.certificates.renewals().waiting:
        assert time.monotonic() < deadline_s, "nobody asked"
        time.sleep(0.05)


def renewals_row(fleet: Fleet) -> tuple[Verdict, str]:
    (row,) = [row for row in check_broker(fleet.broker) if row.name == "tls.renewals"]
    return row.verdict, row.found


def connects_again_after(link: RecordedLink) -> str:
    gone = link.wait(LinkDisconnected)
    link.wait(LinkConnected)
    return gone.reason


def test_certificate_near_its_end_is_renewed_over_the_link_which_connects_with_it(
    fleet: Fleet,
) -> None:
    files = fleet.files(5)
    key = files.key.read_bytes()
    # First the registrar: a request that nobody hears is repeated after hours.
    fleet.answers()
    until_somebody_answers(fleet)

    link = fleet.link(files)
    link.wait(LinkConnected)
    reason = connects_again_after(link)

    assert "renewed certificate" in reason
    until_renewed(files)
    assert files.key.read_bytes() == key


def until_somebody_answers(fleet: Fleet) -> None:
    """Publishes what is no request until somebody hears it."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        with ExitStack() as stack:
            link = RecordedLink(fleet.broker.own_client(CHECKER))
            stack.callback(link.link.stop, 1.0)
            link.link.start()
            link.wait(LinkConnected)
            link.publish(TOPICS.renewal(CHECKER), b"")
            if link.wait(Delivered).reason_code != NO_SUBSCRIBER:
                return
        assert time.monotonic() < deadline_s, "no registrar"


def test_renewal_waits_until_the_authority_s_key_is_back_and_the_check_says_so(
    fleet: Fleet,
) -> None:
    files = fleet.files(40)
    key = fleet.broker.certificates.authority_key
    safe = key.rename(key.with_name("safe"))
    fleet.answers()
    until_somebody_answers(fleet)

    link = fleet.link(files)
    link.wait(LinkConnected)
    until_asked(fleet)
    verdict, said = renewals_row(fleet)
    safe.rename(key)

    assert (verdict, "that of peer, in " in said) == (Verdict.WARN, True)
    assert "renewed certificate" in connects_again_after(link)
    until_renewed(files)
    deadline_s = time.monotonic() + DEADLINE_S
    while renewals_row(fleet)[0] is not Verdict.OK:
        assert time.monotonic() < deadline_s, renewals_row(fleet)
        time.sleep(0.05)


def test_certificate_that_ended_is_named_and_one_issued_anew_is_taken_up(
    fleet: Fleet,
) -> None:
    files = fleet.files(-75)

    link = fleet.link(files)
    gone = link.wait(LinkDisconnected)
    fleet.files(825)
    link.wait(LinkConnected)

    assert "our certificate ended 75 days ago" in gone.reason


def test_broker_s_own_certificate_is_renewed_while_it_runs(fleet: Fleet) -> None:
    certificates = fleet.broker.certificates
    authority, settings = certificates.authority(), fleet.broker.require_settings()
    key = SigningKey(random.Random(1).randbytes(32))
    write_tls_key(certificates.path / "server.key", key.seed)
    hosts = ("127.0.0.1", "localhost")
    certificates.server.write_bytes(authority.issue_server(hosts, key.public, 5))
    fleet.process.stop()
    fleet.process.start()
    link = fleet.link(fleet.files(825))
    link.wait(LinkConnected)
    before_s = shown_end_s(fleet)

    issued = certificates.prepare(settings).issued
    fleet.process.reload()

    assert issued == ("server",)
    assert before_s < time.time() + 6 * DAY_S
    deadline_s = time.monotonic() + DEADLINE_S
    while shown_end_s(fleet) < time.time() + 800 * DAY_S:
        assert time.monotonic() < deadline_s, "still the old certificate"
        time.sleep(0.05)
    # Who was connected stays so.
    assert not [each for each in link.drain() if isinstance(each, LinkDisconnected)]


def shown_end_s(fleet: Fleet) -> float:
    """End of the certificate that the broker shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(fleet.broker.authority_certificate)
    with (
        socket.create_connection((HOST, fleet.port)) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return end_s(ssl.DER_cert_to_PEM_cert(shown))
