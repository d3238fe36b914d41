"""The handler renews what is due, for whoever holds it, and nothing else."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from starling.broker.certificate_reader import DAY_S, from_pem
from starling.broker.health_checks import Verdict
from starling.broker.runtime.certificate_authority import CertificateAuthority
from starling.coordinator.runtime.enrolment.renewal_handler import ALLOWANCE
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.wire.renewal_messages import (
    RENEWAL,
    RENEWED,
    RenewalState,
    sign_renewal,
)
from tests.unit.coordinator.runtime.enrolment.renewal_office import (
    BOARD,
    DEVICE,
    KEY,
    TOPICS,
    Office,
    check,
    enrolled,
    taken,
)

LEFT = {"+400 days": 425, "+420 days": 405, "+820 days": 5, "+900 days": -75}


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


def test_settings_that_change_are_heard_of(office: Office) -> None:
    settings = office.broker.require_settings()
    office.broker.prepare(replace(settings, coordinators=("c1", "c2")))

    reply = office.ask("c2", office.request(office.issued("c2")))

    assert reply.state == RenewalState.RENEWED
