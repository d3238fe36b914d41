"""The handler renews what is due, for whoever holds it, and nothing else."""

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from starling.broker.broker_settings import BrokerSettings
from starling.broker.certificate_reader import (
    DAY_S,
    TlsCertificate,
    from_pem,
    read_certificate,
)
from starling.broker.health_checks import Verdict
from starling.broker.link_events import MqttMessage
from starling.broker.runtime import broker_certificates
from starling.broker.runtime.broker_certificates import (
    CertificateMonitor,
    renewal_check,
)
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.certificate_authority import CertificateAuthority
from starling.coordinator.runtime.enrolment.renewal_handler import (
    ALLOWANCE,
    RenewalHandler,
)
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import StorageError
from starling.protocol.ids import DeviceId, device_id, device_name
from starling.protocol.wire.renewal_messages import (
    RENEWAL,
    RENEWED,
    RenewalAnswer,
    RenewalState,
    sign_renewal,
)
from starling.protocol.wire.topics import Topics

TOPICS = Topics("meadow")
KEY = SigningKey(b"k" * 32)
DEVICE = device_id(SigningKey(b"b" * 32).public)
BOARD = device_name(DEVICE)
LEFT = {"+400 days": 425, "+420 days": 405, "+820 days": 5, "+900 days": -75}


@dataclass
class Office:
    """A handler with what is around it.

    Attributes:
      broker: With the authority.
      boards: Of the chain.
      monotonic_s: The handler's clock.
      handler: Under test.
    """

    broker: BrokerHome
    boards: dict[DeviceId, BoardRecord] = field(default_factory=dict)
    monotonic_s: float = 0.0

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """As after a start of the coordinator."""
        self.handler = RenewalHandler(
            self.broker, self.boards.get, time.time, lambda: self.monotonic_s
        )

    def issued(self, user: str, days: int = 5) -> bytes:
        """Certificate of a client, as it is so many days before its end."""
        authority = self.broker.certificates.authority()
        return from_pem(authority.issue(user, KEY.public, days).decode())

    @property
    def authority(self) -> bytes:
        return from_pem(self.broker.authority_certificate.read_text())

    def request(self, certificate: bytes, key: SigningKey = KEY) -> bytes:
        return RENEWAL.pack(sign_renewal(key, self.authority, certificate))

    def ask(self, user: str, payload: bytes) -> RenewalAnswer:
        return answer(user, self.handler.receive(TOPICS.renewal(user), payload))


def answer(user: str, told: list[MqttMessage]) -> RenewalAnswer:
    (message,) = told
    assert message.topic == TOPICS.renewed(user)
    return RENEWED.unpack(message.payload)


def enrolled(*, revoked: bool = False) -> BoardRecord:
    return BoardRecord(KEY.public, DeviceId(bytes(16)), 1, int(revoked), 0, 0)


@pytest.fixture
def office(fake_mosquitto: Path, tmp_path: Path) -> Office:
    broker = BrokerHome(tmp_path / "broker")
    broker.prepare(BrokerSettings("meadow", coordinators=("c1",), peers=("p1",)))
    return Office(broker, {DEVICE: enrolled()})


def taken(office: Office, reply: RenewalAnswer) -> TlsCertificate:
    found = read_certificate(reply.certificate)
    found.require_issuer(read_certificate(office.authority))
    return found


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT.keys())
@pytest.mark.parametrize("user", [BOARD, "c1", "p1"], ids=["board", "c", "peer"])
def test_certificate_past_half_its_life_is_renewed_for_the_same_name_and_key(
    office: Office, user: str, left: int
) -> None:
    reply = office.ask(user, office.request(office.issued(user, left)))

    if left > 412:
        assert (reply.state, reply.certificate) == (RenewalState.REFUSED, b"")
        assert "425 days left" in reply.detail or "424 days left" in reply.detail
        return
    found = taken(office, reply)
    assert (found.user, found.public_key) == (user, KEY.public)
    assert found.end_s > time.time() + 824 * DAY_S


def test_nobody_is_given_a_certificate_of_another_s_name(office: Office) -> None:
    reply = office.ask("c1", office.request(office.issued(BOARD)))

    assert reply.state == RenewalState.REFUSED
    assert "another client" in reply.detail


def test_certificate_of_another_authority_is_refused(
    office: Office, tmp_path: Path
) -> None:
    paths = tmp_path / "other.key", tmp_path / "other.pem"
    other = CertificateAuthority.create(*paths, "starling meadow")
    forged = from_pem(other.issue("c1", KEY.public, 5).decode())

    assert office.ask("c1", office.request(forged)).state == RenewalState.REFUSED


def test_request_that_the_certificate_s_key_did_not_sign_is_refused(
    office: Office,
) -> None:
    certificate = office.issued("c1")
    stranger = office.request(certificate, SigningKey(b"s" * 32))
    elsewhere = RENEWAL.pack(sign_renewal(KEY, b"another authority", certificate))

    for payload in (stranger, elsewhere):
        assert office.ask("c1", payload).state == RenewalState.REFUSED
    assert office.handler.refused == {"BAD_SIGNATURE": 2}


@pytest.mark.parametrize(
    ("record", "said"),
    [(None, "knows no such board"), (enrolled(revoked=True), "revoked")],
    ids=["unknown", "revoked"],
)
def test_board_that_the_chain_does_not_admit_is_refused(
    office: Office, record: BoardRecord | None, said: str
) -> None:
    office.boards.clear()
    if record is not None:
        office.boards[DEVICE] = record

    reply = office.ask(BOARD, office.request(office.issued(BOARD)))

    assert reply.state == RenewalState.REFUSED
    assert said in reply.detail


def test_expelled_client_is_refused_at_once(office: Office) -> None:
    certificate = office.issued("c1")
    office.broker.expel("c1")

    assert "expelled" in office.ask("c1", office.request(certificate)).detail


def test_user_that_is_neither_board_nor_coordinator_is_refused(
    office: Office,
) -> None:
    reply = office.ask("bridge", office.request(office.issued("bridge")))

    assert reply.state == RenewalState.REFUSED


@pytest.mark.parametrize(
    "spoil",
    [
        lambda payload: b"",
        lambda payload: payload[:-1],
        lambda payload: payload + b"\0",
        lambda payload: b"\xff" * 100,
        lambda payload: payload * 2000,
    ],
    ids=["empty", "cut", "longer", "noise", "huge"],
)
def test_malformed_request_is_refused_and_counted(
    office: Office, spoil: Callable[[bytes], bytes]
) -> None:
    payload = spoil(office.request(office.issued("c1")))

    told = office.handler.receive(TOPICS.renewal("c1"), payload)

    assert [RENEWED.unpack(each.payload).state for each in told] in (
        [],
        [RenewalState.REFUSED],
    )
    assert office.handler.receive("elsewhere", payload) == []


def test_certificate_changed_anywhere_renews_nothing(office: Office) -> None:
    certificate = office.issued("c1")

    for place in range(len(certificate)):
        changed = bytearray(certificate)
        changed[place] ^= 1
        reply = office.ask("c1", office.request(bytes(changed)))
        assert reply.state == RenewalState.REFUSED, place


def test_client_that_asks_again_and_again_spends_its_own_allowance(
    office: Office,
) -> None:
    def admitted(user: str, count: int) -> int:
        return sum(
            office.handler.admits(TOPICS.renewal(user), 600) for _ in range(count)
        )

    assert admitted(BOARD, 500) == ALLOWANCE.messages_burst
    assert admitted("c1", 2) == 2
    office.monotonic_s += 10 / ALLOWANCE.messages_per_s
    assert admitted(BOARD, 500) == ALLOWANCE.messages_burst
    office.handler.write_status()

    verdict, said = check(office)
    assert verdict is Verdict.WARN
    assert said == f"1 clients ask too often; 992 requests of {BOARD} were ignored"
    assert office.broker.certificates.renewals().ignored == {BOARD: 992}

    # A start counts anew.
    office.open()
    office.handler.write_status()
    assert check(office)[0] is Verdict.OK


@pytest.mark.parametrize("content", ["[]", "{}", "{", '{"waiting": 1, "ignored": {}}'])
def test_damaged_record_is_told_with_its_name(office: Office, content: str) -> None:
    (office.broker.path / "renewals.json").write_text(content)

    assert check(office)[0] is Verdict.FAIL
    assert "renewals.json: damaged; remove it" in check(office)[1]


def without_key(office: Office) -> Path:
    key = office.broker.certificates.authority_key
    return key.rename(key.with_name("safe"))


def check(office: Office) -> tuple[Verdict, str]:
    settings = office.broker.require_settings()
    row = renewal_check(office.broker.certificates, settings, time.time())
    return row.verdict, row.found


def test_renewal_waits_for_the_authority_s_key_is_told_and_then_carried_out(
    office: Office,
) -> None:
    payloads = {
        user: office.request(office.issued(user, days))
        for user, days in (("c1", 200), (BOARD, 90), ("p1", 300))
    }
    safe = without_key(office)

    for user, payload in payloads.items():
        reply = office.ask(user, payload)
        assert reply.state == RenewalState.WAITS
        assert "authority's key" in reply.detail
    assert office.handler.process_pending() == []
    office.handler.write_status()

    verdict, said = check(office)
    assert verdict is Verdict.WARN
    assert "3 clients wait" in said
    assert f"that of {BOARD}, in 90 days" in said or "in 89 days" in said

    # Another start, and a board that was revoked meanwhile.
    office.open()
    office.boards[DEVICE] = enrolled(revoked=True)
    safe.rename(office.broker.certificates.authority_key)
    told = {
        each.topic: RENEWED.unpack(each.payload)
        for each in office.handler.process_pending()
    }
    office.handler.write_status()

    assert taken(office, told[TOPICS.renewed("c1")]).user == "c1"
    assert taken(office, told[TOPICS.renewed("p1")]).user == "p1"
    assert told[TOPICS.renewed(BOARD)].state == RenewalState.REFUSED
    assert office.handler.process_pending() == []
    assert check(office) == (Verdict.OK, "no certificate waits to be renewed")


def pull_out(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority's key is on a token that is no longer there to be read."""
    key, exists = office.broker.certificates.authority_key, Path.exists

    def fails(path: Path) -> bool:
        if path == key:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", fails)


def test_key_on_a_token_that_was_pulled_out_is_waited_for(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = office.request(office.issued("c1"))
    with monkeypatch.context() as patched:
        pull_out(office, patched)

        assert office.ask("c1", payload).state == RenewalState.WAITS
        with pytest.raises(StorageError, match=r"authority\.key"):
            office.handler.process_pending()

    assert taken(office, answer("c1", office.handler.process_pending())).user == "c1"


def test_answers_before_a_fault_are_not_lost(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    payloads = {user: office.request(office.issued(user)) for user in ("c1", "p1")}
    safe = without_key(office)
    for user, payload in payloads.items():
        assert office.ask(user, payload).state == RenewalState.WAITS
    safe.rename(office.broker.certificates.authority_key)
    issue = CertificateAuthority.issue

    def fails(authority: CertificateAuthority, user: str, public: bytes) -> bytes:
        if user == "p1":
            raise StorageError("the token was pulled out")
        return issue(authority, user, public)

    with monkeypatch.context() as patched:
        patched.setattr(CertificateAuthority, "issue", fails)
        assert (
            taken(office, answer("c1", office.handler.process_pending())).user == "c1"
        )
        with pytest.raises(StorageError, match="pulled out"):
            office.handler.process_pending()

    assert taken(office, answer("p1", office.handler.process_pending())).user == "p1"


def test_broker_that_runs_outlives_a_token_that_was_pulled_out(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_certificates, "LOOK_EVERY_S", 0.0)
    monitor = CertificateMonitor(
        office.broker.certificates, office.broker.require_settings
    )
    pull_out(office, monkeypatch)
    found = monitor.look()

    assert found is not None
    assert "authority.key" in found.undone[0]
    assert check(office)[0] is Verdict.OK


@pytest.mark.parametrize(
    "fault", [OSError(errno.EIO, "Input/output error"), OSError("odd")]
)
def test_look_at_certificates_ends_no_broker(office: Office, fault: OSError) -> None:
    def settings() -> BrokerSettings:
        raise fault

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(broker_certificates, "LOOK_EVERY_S", 0.0)
        monitor = CertificateMonitor(office.broker.certificates, settings)
        found = monitor.look()

    assert found is not None
    assert str(office.broker.path) in found.undone[0]


def test_check_names_the_broker_s_own_certificates_that_wait(office: Office) -> None:
    certificates = office.broker.certificates
    hosts = ("127.0.0.1", "localhost")
    authority = certificates.authority()
    certificates.server.write_bytes(authority.issue_server(hosts, KEY.public, 100))
    (certificates.path / "registrar.pem").unlink()
    without_key(office)

    verdict, said = check(office)

    assert verdict is Verdict.WARN
    assert "server.pem ends in 100 days" in said
    assert "registrar.pem is missing" in said
    # And the broker still starts.
    undone = office.broker.prepare(office.broker.require_settings())
    assert [line for line in undone if "registrar.pem" in line]


def test_settings_that_change_are_heard_of(office: Office) -> None:
    settings = office.broker.require_settings()
    office.broker.prepare(replace(settings, coordinators=("c1", "c2")))

    reply = office.ask("c2", office.request(office.issued("c2")))

    assert reply.state == RenewalState.RENEWED
