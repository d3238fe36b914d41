"""Bodies of envelopes: what no schema says by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.crypto.sealed_blob import blob_digest
from starling.protocol.errors import NormExceeded, ProtocolError, Reason, StaleUpdate
from starling.protocol.ids import H
from starling.protocol.wire.message_bodies import REFUSED, UPLOAD, refusal
from tests.vectors import protocol_samples as samples
from tests.vectors.protocol_structures import STRUCTURES

SUBJECT = H(b"subject")


@given(st.text(max_size=300), st.sampled_from(Reason))
def test_refusal_of_any_error_reaches_the_sender(detail: str, reason: Reason) -> None:
    refused = refusal(SUBJECT, ProtocolError(detail, reason), 5)

    assert REFUSED.unpack(REFUSED.pack(refused)) == refused
    assert refused.reason == reason


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (NormExceeded("too long"), Reason.NORM_EXCEEDED, "too long"),
        (StaleUpdate("a\nb\x1b[2J"), Reason.STALE, "a?b?[2J"),
        (ProtocolError("é" * 150), Reason.MALFORMED, "é" * 100),
        (ProtocolError("x" + "é" * 150), Reason.MALFORMED, "x" + "é" * 99),
        (ProtocolError("\ud800"), Reason.MALFORMED, "?"),
    ],
    ids=["plain", "control characters", "long", "cut in a character", "surrogate"],
)
def test_refusal_carries_reason_and_printable_detail(
    error: ProtocolError, reason: Reason, detail: str
) -> None:
    refused = refusal(SUBJECT, error)

    assert (refused.reason, refused.detail) == (reason, detail)


def test_upload_keeps_the_signed_bytes_of_both_envelopes() -> None:
    upload = next(each for each in STRUCTURES if each.name == "UPLOAD").example

    read = UPLOAD.unpack(UPLOAD.pack(upload))

    read.update.check(samples.CHAIN_ID)
    read.lease.check(samples.CHAIN_ID)
    assert blob_digest(read.blob) == samples.CONTRIBUTION.blob
