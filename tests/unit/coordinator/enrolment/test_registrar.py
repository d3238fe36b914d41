"""The registrar's rules against who holds no secret, an old one, or another's."""

from dataclasses import replace

import pytest

from starling.coordinator.enrolment.registrar import (
    CHALLENGE_S,
    ProvenClaim,
    Registrar,
    TokenRecord,
    require_good,
)
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.crypto.scram import scram_keys
from starling.protocol.errors import (
    DecodeError,
    LimitError,
    ProtocolError,
    Reason,
    ReplayError,
    SignatureError,
)
from starling.protocol.wire.enrolment_messages import (
    CLAIM,
    HELLO,
    EnrolmentHello,
    EnrolmentKind,
    make_claim,
    short_code,
    transcript,
)

NOW_S = 1_700_000_000.0
SECRET = bytes(range(20))
AUTHORITY = b"\xaa" * 32
TOKEN = TokenRecord(
    b"token-01", EnrolmentKind.BOARD, scram_keys(SECRET), 1, int(NOW_S) + 60, False
)
TOKENS = {TOKEN.identity: TOKEN}
REGISTRAR = Registrar(SigningKey(b"\x01" * 32).public, AUTHORITY, b"\x02" * 32)
HELLO_MADE = EnrolmentHello(1, TOKEN.identity, EnrolmentKind.BOARD, b"n" * 32, b"{}")


def challenged(hello: EnrolmentHello = HELLO_MADE, client: str = "me") -> bytes:
    challenge = REGISTRAR.challenge(client, HELLO.pack(hello), TOKENS, NOW_S)
    return CLAIM.pack(make_claim(SECRET, AUTHORITY, hello, challenge))


def proven(payload: bytes, client: str = "me", now_s: float = NOW_S) -> ProvenClaim:
    found, claim = REGISTRAR.prove(payload, TOKENS)
    REGISTRAR.require_fresh(client, claim, now_s)
    return found


def test_claim_of_the_secrets_holder_is_proven_with_the_code_that_it_shows() -> None:
    payload = challenged()

    found = proven(payload)

    claim = CLAIM.unpack(payload)
    said = transcript(AUTHORITY, claim.hello, claim.challenge)
    assert found == ProvenClaim(TOKEN, "{}", said, short_code(said))


@pytest.mark.parametrize(
    "hello",
    [
        replace(HELLO_MADE, token=b"token-02"),
        replace(HELLO_MADE, kind=EnrolmentKind.COORDINATOR),
    ],
    ids=["unknown token", "another kind"],
)
def test_hello_without_a_good_token_is_refused(hello: EnrolmentHello) -> None:
    with pytest.raises(ProtocolError, match="no such token") as error:
        REGISTRAR.challenge("me", HELLO.pack(hello), TOKENS, NOW_S)

    assert error.value.reason == Reason.NOT_AUTHORISED


def test_expired_token_is_refused() -> None:
    late_s = float(TOKEN.expires_s)

    with pytest.raises(ProtocolError, match="expired"):
        REGISTRAR.challenge("me", HELLO.pack(HELLO_MADE), TOKENS, late_s)
    with pytest.raises(ProtocolError, match="expired"):
        require_good(TOKEN, late_s)


@pytest.mark.parametrize("size", [0, 1, HELLO.bytes_max + 1, 100_000])
def test_bytes_that_are_no_hello_are_refused_by_form_or_length(size: int) -> None:
    with pytest.raises((DecodeError, LimitError)):
        REGISTRAR.challenge("me", b"\x95" * size, TOKENS, NOW_S)


def test_claim_cut_anywhere_is_refused() -> None:
    payload = challenged()

    for end in range(len(payload)):
        with pytest.raises((DecodeError, LimitError)):
            REGISTRAR.prove(payload[:end], TOKENS)


def test_wrong_secret_is_refused() -> None:
    challenge = REGISTRAR.challenge("me", HELLO.pack(HELLO_MADE), TOKENS, NOW_S)
    claim = make_claim(b"x" * 20, AUTHORITY, HELLO_MADE, challenge)

    with pytest.raises(SignatureError, match="another"):
        REGISTRAR.prove(CLAIM.pack(claim), TOKENS)


def test_claim_made_under_another_authority_is_refused() -> None:
    challenge = REGISTRAR.challenge("me", HELLO.pack(HELLO_MADE), TOKENS, NOW_S)
    claim = make_claim(SECRET, b"\xbb" * 32, HELLO_MADE, challenge)

    with pytest.raises(SignatureError):
        REGISTRAR.prove(CLAIM.pack(claim), TOKENS)


def test_keys_exchanged_after_the_proof_are_refused() -> None:
    claim = CLAIM.unpack(challenged())
    swapped = replace(claim, hello=replace(claim.hello, document=b"{ }"))

    with pytest.raises(SignatureError):
        REGISTRAR.prove(CLAIM.pack(swapped), TOKENS)


def test_claim_replayed_by_another_client_is_refused() -> None:
    payload = challenged()

    with pytest.raises(ReplayError, match="not for this claim"):
        proven(payload, client="you")


@pytest.mark.parametrize("now_s", [NOW_S - 1, NOW_S + CHALLENGE_S + 1])
def test_claim_out_of_its_time_is_refused(now_s: float) -> None:
    payload = challenged()
    _, claim = REGISTRAR.prove(payload, TOKENS)

    with pytest.raises(ReplayError, match="too old"):
        REGISTRAR.require_fresh("me", claim, now_s)


def test_challenge_of_another_registrars_life_is_refused() -> None:
    payload = challenged()
    again = replace(REGISTRAR, nonce_key=b"\x03" * 32)
    _, claim = again.prove(payload, TOKENS)

    with pytest.raises(ReplayError):
        again.require_fresh("me", claim, NOW_S)


def test_claim_for_another_registrar_is_refused() -> None:
    other = replace(REGISTRAR, public=SigningKey(b"\x09" * 32).public)
    challenge = other.challenge_for("me", HELLO_MADE, NOW_S)
    claim = make_claim(SECRET, AUTHORITY, HELLO_MADE, challenge)

    with pytest.raises(SignatureError, match="another registrar"):
        REGISTRAR.prove(CLAIM.pack(claim), TOKENS)


def test_code_differs_with_each_nonce_of_the_registrar() -> None:
    codes = {
        short_code(
            transcript(
                AUTHORITY,
                HELLO_MADE,
                REGISTRAR.challenge_for("me", HELLO_MADE, NOW_S + second),
            )
        )
        for second in range(50)
    }

    assert len(codes) == 50
