"""Messages by which a board or a coordinator enrols at a broker that knows it not yet.

    client                                       registrar
    hello      token, nonce, document      ->
               <-                          challenge  key, nonce
    claim      hello, challenge, proof     ->
               <-                          outcome    state, document, signature

The client knows a token's secret, and proves it over all that was said before: its keys
and those of the registrar, and the authority whose certificate the broker showed. The
outcome is proven by the registrar in the same way, so that a broker between the two can
neither admit anybody nor lead a client to another fleet. Both sides show a short code
of the same transcript, for people to compare.

The registrar keeps nothing until a claim is proven: its nonce is a code over the hello
that it recognises, as the cookie of DTLS is (RFC 6347 section 4.2.1).

Source: SCRAM, RFC 5802 section 5, whose client-first message, server-first message,
client-final and server-final messages these four are.
"""

import base64
import hashlib
from enum import IntEnum
from typing import Annotated

from starling.protocol.crypto.scram import (
    PROOF_BYTES,
    ScramKeys,
    check_client_proof,
    check_server_signature,
    client_proof,
    scram_keys,
    server_signature,
)
from starling.protocol.errors import DecodeError
from starling.protocol.ids import KEY_BYTES
from starling.protocol.schema.msgpack_codec import (
    Structure,
    binary,
    exactly,
    structure,
    text,
    uint,
)

EXCHANGE_VERSION = 1
TOKEN_ID_BYTES = 8
NONCE_BYTES = 32
FINGERPRINT_BYTES = 32
DOCUMENT_BYTES_MAX = 4096
"""Of a client: a request or an identity."""
PARTY_DOCUMENT_BYTES_MAX = 18 * 1024
"""Of a party that founds a chain: it may bring a certificate for each other one."""
ADMISSION_BYTES_MAX = 120 * 1024
"""An answer fits a packet of the broker's."""
DETAIL_BYTES_MAX = 200
_TAG = b"starling/enrolment-exchange/1"
_OUTCOME_TAG = b"starling/enrolment-outcome/1"
_CODE_TAG = b"starling/enrolment-code/1"
_CODE_BYTES = 5


class EnrolmentKind(IntEnum):
    """Kind of client that enrols."""

    BOARD = 0
    COORDINATOR = 1
    PARTY = 2
    """A coordinator that founds a chain with others."""


class EnrolmentHello(Structure, frozen=True):
    """A client names its token and shows its keys.

    Attributes:
      version: `EXCHANGE_VERSION`.
      token: The token's id.
      kind: `EnrolmentKind`.
      nonce: Random.
      document: Its enrolment request, or a coordinator's identity, as JSON; or what a
        party says, see `protocol.chain.founding`; signed by the key that gives it its
        id.
    """

    version: Annotated[int, uint(EXCHANGE_VERSION, EXCHANGE_VERSION)]
    token: Annotated[bytes, exactly(TOKEN_ID_BYTES)]
    kind: Annotated[int, uint(max(EnrolmentKind))]
    nonce: Annotated[bytes, exactly(NONCE_BYTES)]
    document: Annotated[bytes, binary(PARTY_DOCUMENT_BYTES_MAX, 1)]

    def __post_init__(self) -> None:
        """Refuses a long document of who is no party."""
        is_long = len(self.document) > DOCUMENT_BYTES_MAX
        if is_long and self.kind != EnrolmentKind.PARTY:
            raise DecodeError(f"document: {DOCUMENT_BYTES_MAX} bytes allowed")


HELLO = structure(EnrolmentHello, PARTY_DOCUMENT_BYTES_MAX + 128)


class EnrolmentChallenge(Structure, frozen=True):
    """The registrar's side of the transcript.

    Attributes:
      registrar: Public key of the coordinator that admits.
      nonce: Only the registrar could have made it, for this hello and a short time.
    """

    registrar: Annotated[bytes, exactly(KEY_BYTES)]
    nonce: Annotated[bytes, exactly(NONCE_BYTES)]


CHALLENGE = structure(EnrolmentChallenge, 80)


class EnrolmentClaim(Structure, frozen=True):
    """A client proves that it holds the token's secret.

    Attributes:
      hello: As it was sent.
      challenge: As it was answered.
      proof: SCRAM's ClientProof over the transcript.
    """

    hello: EnrolmentHello
    challenge: EnrolmentChallenge
    proof: Annotated[bytes, exactly(PROOF_BYTES)]


CLAIM = structure(EnrolmentClaim, HELLO.bytes_max + CHALLENGE.bytes_max + 48)


class EnrolmentState(IntEnum):
    """Decision about a claim, so far."""

    PENDING = 0
    ADMITTED = 1
    REFUSED = 2


class EnrolmentOutcome(Structure, frozen=True):
    """The registrar's answer to a claim, or its refusal of a hello.

    Attributes:
      state: `EnrolmentState`.
      detail: Of a refusal, or of what is waited for, for people.
      document: Of an admission, as JSON, or a founder's answer; else empty.
      signature: SCRAM's ServerSignature over transcript and answer; empty where there
        is no token that both know, so that it proves nothing.
    """

    state: Annotated[int, uint(max(EnrolmentState))]
    detail: Annotated[str, text(DETAIL_BYTES_MAX)]
    document: Annotated[bytes, binary(ADMISSION_BYTES_MAX)]
    signature: Annotated[bytes, binary(PROOF_BYTES)]

    def __post_init__(self) -> None:
        """Checks that an admission, and nothing else, has a document."""
        # A refusal with a document could be taken for an admission by a careless
        # reader.
        if (self.state == EnrolmentState.ADMITTED) != bool(self.document):
            raise DecodeError("an admission, and nothing else, has a document")


OUTCOME = structure(EnrolmentOutcome, ADMISSION_BYTES_MAX + 512)


def transcript(
    authority: bytes, hello: EnrolmentHello, challenge: EnrolmentChallenge
) -> bytes:
    """Bytes that both sides prove: RFC 5802's AuthMessage.

    Args:
      authority: SHA-256 of the certificate of the broker's authority.
      hello: As the client sent it.
      challenge: As the registrar answered it.
    """
    assert len(authority) == FINGERPRINT_BYTES
    said = HELLO.pack(hello) + CHALLENGE.pack(challenge)
    return _TAG + authority + said


def short_code(proven: bytes) -> str:
    """Code of a transcript for people to compare: `XXXX-XXXX`, 40 bits.

    A client's keys are fixed before it knows the registrar's nonce, so that each try to
    reach a code costs a whole exchange.
    """
    digest = hashlib.sha256(_CODE_TAG + proven).digest()[:_CODE_BYTES]
    letters = base64.b32encode(digest).decode()
    return f"{letters[:4]}-{letters[4:]}"


def make_claim(
    secret: bytes,
    authority: bytes,
    hello: EnrolmentHello,
    challenge: EnrolmentChallenge,
) -> EnrolmentClaim:
    """A client's claim."""
    proof = client_proof(secret, transcript(authority, hello, challenge))
    return EnrolmentClaim(hello, challenge, proof)


def check_claim(keys: ScramKeys, authority: bytes, claim: EnrolmentClaim) -> bytes:
    """Checks that a claim's maker holds the token's secret.

    Returns:
      The transcript.

    Raises:
      SignatureError: If it does not.
    """
    proven = transcript(authority, claim.hello, claim.challenge)
    check_client_proof(keys, proven, claim.proof)
    return proven


def sign_outcome(
    keys: ScramKeys,
    proven: bytes,
    state: EnrolmentState,
    detail: str = "",
    document: bytes = b"",
) -> EnrolmentOutcome:
    """The registrar's answer to a claim with this transcript."""
    unsigned = EnrolmentOutcome(state, detail, document, b"")
    signature = server_signature(keys, _answered(proven, unsigned))
    return EnrolmentOutcome(state, detail, document, signature)


def check_outcome(secret: bytes, proven: bytes, outcome: EnrolmentOutcome) -> None:
    """Checks that an answer is of a registrar that knows the token.

    Args:
      secret: The token's.
      proven: The transcript.
      outcome: Its answer.

    Raises:
      SignatureError: If it is not, or it answers another claim.
    """
    unsigned = EnrolmentOutcome(outcome.state, outcome.detail, outcome.document, b"")
    keys = scram_keys(secret)
    check_server_signature(keys, _answered(proven, unsigned), outcome.signature)


def _answered(proven: bytes, unsigned: EnrolmentOutcome) -> bytes:
    packed = OUTCOME.pack(unsigned)
    # With the answer in it: a proven refusal cannot be turned into an admission.
    return _OUTCOME_TAG + hashlib.sha256(proven).digest() + packed
