"""A client's certificate: renewed at half its life, and named once it ended."""

import logging
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from starling.broker.certificate_reader import (
    DAY_S,
    from_pem,
    read_certificate,
)
from starling.broker.link_events import MqttMessage, RenewalTopics, TlsFiles
from starling.broker.runtime.certificate_authority import CertificateAuthority
from starling.broker.runtime.client_certificate import (
    ASK_EVERY_S,
    RenewedCertificate,
    ended_certificate,
)
from starling.broker.runtime.tls_key import write_tls_key
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.wire.renewal_messages import (
    RENEWAL,
    RENEWED,
    RenewalAnswer,
    RenewalState,
    check_renewal,
)
from tests.unit.durable.power_cut_disk import PowerCut, PowerCutDisk

TOPICS = RenewalTopics("ask", "answer")
KEY = SigningKey(bytes(32))


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """Of a client, issued today."""
    made = TlsFiles(tmp_path / "ca.pem", tmp_path / "c.pem", tmp_path / "c.key")
    authority = CertificateAuthority.create(tmp_path / "ca.key", made.authority, "test")
    made.certificate.write_bytes(authority.issue("ann", KEY.public))
    write_tls_key(made.key, KEY.seed)
    return made


def authority_of(files: TlsFiles) -> CertificateAuthority:
    return CertificateAuthority.open(
        files.authority.with_suffix(".key"), files.authority
    )


def answered(certificate: bytes, state: RenewalState = RenewalState.RENEWED) -> bytes:
    return RENEWED.pack(RenewalAnswer(state, certificate, ""))


def renewed(
    files: TlsFiles, user: str = "ann", key: SigningKey = KEY, days: int = 900
) -> bytes:
    pem = authority_of(files).issue(user, key.public, days)
    return answered(from_pem(pem.decode()))


@pytest.mark.parametrize(
    ("days", "asks"), [(0, False), (400, False), (420, True), (820, True), (900, True)]
)
def test_certificate_is_asked_for_from_half_its_life_on(
    files: TlsFiles, days: int, asks: bool
) -> None:
    link = RenewedCertificate(files, TOPICS)

    asked = link.request(0.0, time.time() + days * DAY_S)

    assert (asked is not None) is asks
    if asked is None:
        return
    assert asked == MqttMessage("ask", asked.payload)
    request = RENEWAL.unpack(asked.payload)
    assert request.certificate == from_pem(files.certificate.read_text())
    check_renewal(KEY.public, from_pem(files.authority.read_text()), request)


def test_request_without_an_answer_is_repeated_after_hours(files: TlsFiles) -> None:
    link, now_s = RenewedCertificate(files, TOPICS), time.time() + 500 * DAY_S

    moments = (0.0, 1.0, ASK_EVERY_S - 1, ASK_EVERY_S, 2 * ASK_EVERY_S)
    asked = [link.request(moment, now_s) is not None for moment in moments]

    assert asked == [True, False, False, True, True]


def test_certificate_that_came_is_taken_for_the_same_key(files: TlsFiles) -> None:
    link, key = RenewedCertificate(files, TOPICS), files.key.read_bytes()

    assert link.receive(renewed(files), time.time())

    found = read_certificate(from_pem(files.certificate.read_text()))
    assert (found.user, found.public_key) == ("ann", KEY.public)
    assert found.end_s > time.time() + 899 * DAY_S
    assert files.key.read_bytes() == key
    # The same answer, delivered twice, changes nothing.
    assert not link.receive(renewed(files), time.time())


def test_certificate_that_is_not_ours_is_not_taken(
    files: TlsFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "other").mkdir()
    other = replace(files, authority=tmp_path / "other" / "ca.pem")
    CertificateAuthority.create(
        other.authority.with_suffix(".key"), other.authority, "test"
    )
    before, link = files.certificate.read_bytes(), RenewedCertificate(files, TOPICS)
    offered = {
        "another authority's": renewed(other),
        "another's name": renewed(files, user="bob"),
        "another key": renewed(files, key=SigningKey(b"x" * 32)),
        "an older one": renewed(files, days=800),
        "no certificate": answered(b"x"),
        "no answer": b"x",
        "an empty one": b"",
    }

    with caplog.at_level(logging.WARNING):
        taken = {
            name: link.receive(each, time.time()) for name, each in offered.items()
        }

    assert taken == dict.fromkeys(offered, False)
    assert files.certificate.read_bytes() == before


def test_answer_that_it_waits_is_told_with_the_days_left(
    files: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    link = RenewedCertificate(files, TOPICS)
    answer = RENEWED.pack(RenewalAnswer(RenewalState.WAITS, b"", "the key is away"))

    assert not link.receive(answer, time.time() + 800 * DAY_S)

    (told,) = caplog.messages
    assert "ends in 25 days and is not renewed: the key is away" in told


@pytest.mark.parametrize("undo", [False, True], ids=["renamed", "rename lost"])
def test_power_cut_at_any_step_leaves_a_certificate_that_holds(
    files: TlsFiles, undo: bool
) -> None:
    before, answer, cut_at = files.certificate.read_bytes(), renewed(files), 0
    finished = False
    while not finished:
        files.certificate.write_bytes(before)
        with pytest.MonkeyPatch.context() as patch:
            disk = PowerCutDisk(patch, cut_at)
            with suppress(PowerCut):
                finished = RenewedCertificate(files, TOPICS).receive(
                    answer, time.time()
                )
        disk.lose(keep=0.5, null_filled=True, undo_renames=undo)
        found = read_certificate(from_pem(files.certificate.read_text()))
        assert (found.user, found.public_key) == ("ann", KEY.public)
        cut_at += 1
    assert cut_at > 3


def test_damaged_files_are_told_and_end_nothing(
    files: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    files.key.write_bytes(b"no key")
    late_s = time.time() + 500 * DAY_S

    assert RenewedCertificate(files, TOPICS).request(0.0, late_s) is None
    files.certificate.write_bytes(b"no certificate")
    assert RenewedCertificate(files, TOPICS).request(0.0, late_s) is None
    assert not RenewedCertificate(files, TOPICS).receive(answered(b"x"), late_s)
    assert len(caplog.messages) == 3


@pytest.mark.parametrize("days", [0, 400, 820])
def test_certificate_that_holds_is_not_blamed(files: TlsFiles, days: int) -> None:
    now_s = time.time() + days * DAY_S

    assert ended_certificate(files, "connection lost", now_s) == ""


def test_own_certificate_after_900_days_is_named(files: TlsFiles) -> None:
    found = ended_certificate(files, "connection lost", time.time() + 900 * DAY_S)

    assert found == f"our certificate ended 75 days ago: {files.certificate}"


def test_authority_after_its_twenty_years_is_named(files: TlsFiles) -> None:
    files.certificate.unlink()

    found = ended_certificate(files, "connection lost", time.time() + 21 * 365 * DAY_S)

    assert found.startswith("the broker's authority ended 365 days ago")


def test_link_without_tls_has_no_certificate() -> None:
    assert ended_certificate(None, "certificate has expired", 0.0) == ""
