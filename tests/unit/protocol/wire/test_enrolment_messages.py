"""Outcomes are of whoever knows the token, and answer one claim alone."""

from dataclasses import replace

import pytest

from starling.protocol.crypto.scram import scram_keys
from starling.protocol.errors import DecodeError, SignatureError
from starling.protocol.wire.enrolment_messages import (
    OUTCOME,
    EnrolmentOutcome,
    EnrolmentState,
    check_outcome,
    sign_outcome,
)

SECRET = bytes(range(20))
SAID = b"transcript"
ADMITTED = sign_outcome(
    scram_keys(SECRET), SAID, EnrolmentState.ADMITTED, document=b"{}"
)


def test_outcome_of_who_knows_the_token_is_taken() -> None:
    check_outcome(SECRET, SAID, OUTCOME.unpack(OUTCOME.pack(ADMITTED)))


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (b"another", ADMITTED),
        (SAID, replace(ADMITTED, document=b"[]")),
        (SAID, replace(ADMITTED, detail="x")),
        (SAID, replace(ADMITTED, signature=b"")),
        (SAID, sign_outcome(scram_keys(b"x" * 20), SAID, EnrolmentState.PENDING)),
    ],
    ids=["another claim", "another admission", "detail", "unsigned", "another token"],
)
def test_outcome_that_nobody_proved_is_refused(
    said: bytes, outcome: EnrolmentOutcome
) -> None:
    with pytest.raises(SignatureError):
        check_outcome(SECRET, said, outcome)


@pytest.mark.parametrize(
    ("state", "document"),
    [(EnrolmentState.ADMITTED, b""), (EnrolmentState.PENDING, b"{}")],
)
def test_admission_alone_has_a_document(state: EnrolmentState, document: bytes) -> None:
    with pytest.raises(DecodeError):
        EnrolmentOutcome(state, "", document, b"")
