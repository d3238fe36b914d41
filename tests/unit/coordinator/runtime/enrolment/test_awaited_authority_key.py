"""Renewals wait for the authority's key, and a broker runs on without it."""

import errno
from pathlib import Path

import pytest

from starling.broker.broker_settings import BrokerSettings
from starling.broker.health_checks import Verdict
from starling.broker.runtime import broker_certificates
from starling.broker.runtime.broker_certificates import CertificateMonitor
from starling.broker.runtime.certificate_authority import CertificateAuthority
from starling.protocol.errors import StorageError
from starling.protocol.wire.renewal_messages import RENEWED, RenewalState
from tests.unit.coordinator.runtime.enrolment.renewal_office import (
    BOARD,
    DEVICE,
    KEY,
    TOPICS,
    Office,
    answer,
    check,
    enrolled,
    taken,
)


def without_key(office: Office) -> Path:
    key = office.broker.certificates.authority_key
    return key.rename(key.with_name("safe"))


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
