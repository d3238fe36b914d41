"""The registrar's rules: which newcomer is answered, and what its proof must be.

Whoever reaches the enrolment listener may send anything. Each message is checked for
length and form, then for a token that is good, then for the proof of its secret, and
only then is the newcomer's document looked at. Nothing is kept of anybody before the
proof.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from starling.protocol.crypto.scram import ScramKeys
from starling.protocol.errors import (
    DecodeError,
    ProtocolError,
    Reason,
    ReplayError,
    SignatureError,
)
from starling.protocol.ids import PublicKey
from starling.protocol.wire.enrolment_messages import (
    CLAIM,
    HELLO,
    NONCE_BYTES,
    EnrolmentChallenge,
    EnrolmentClaim,
    EnrolmentHello,
    EnrolmentKind,
    check_claim,
    short_code,
)

CHALLENGE_S = 120
"""For which a claim may follow its challenge."""
USES_MAX = 10_000
LIFE_S_MAX = 30 * 86_400
_TIME_BYTES = 8
_NONCE_TAG = b"starling/enrolment-nonce/1"


@dataclass(frozen=True)
class TokenRecord:
    """Record of a token; it does not hold the secret.

    Attributes:
      identity: (8,) bytes.
      kind: Who may enrol with it.
      keys: With which a proof is checked.
      uses: Newcomers that may enrol with it, in all.
      expires_s: Unix time from which it is good for nothing.
      by_hand: Whether an operator has to accept each newcomer by its code.
    """

    identity: bytes
    kind: EnrolmentKind
    keys: ScramKeys
    uses: int
    expires_s: int
    by_hand: bool

    def is_good(self, now_s: float) -> bool:
        """True until the token expires."""
        return now_s < self.expires_s


@dataclass(frozen=True)
class ProvenClaim:
    """A claim whose maker holds the token's secret.

    Attributes:
      token: With which it enrols.
      document: Its request or identity as text, not looked at yet.
      transcript: What both sides prove.
      code: For people to compare.
    """

    token: TokenRecord
    document: str
    transcript: bytes
    code: str


Tokens = Mapping[bytes, TokenRecord]
"""Records by identity."""


@dataclass(frozen=True)
class Registrar:
    """Constants of one registrar's life.

    Attributes:
      public: The coordinator's key.
      authority: SHA-256 of the certificate of the broker's authority.
      nonce_key: (32,) random bytes, drawn at its start.
    """

    public: PublicKey
    authority: bytes
    nonce_key: bytes = field(repr=False)

    def challenge(
        self, client: str, payload: bytes, tokens: Tokens, now_s: float
    ) -> EnrolmentChallenge:
        """Answers a hello.

        Args:
          client: The broker's id of the connection.
          payload: As it arrived.
          tokens: All that there are.
          now_s: Unix time.

        Raises:
          ProtocolError: If it is malformed, or names no token that is good for it.
        """
        hello = HELLO.unpack(payload)
        require_good(_token(tokens, hello), now_s)
        return self.challenge_for(client, hello, now_s)

    def challenge_for(
        self, client: str, hello: EnrolmentHello, now_s: float
    ) -> EnrolmentChallenge:
        """A challenge that `prove` knows again."""
        return EnrolmentChallenge(self.public, self._nonce(client, hello, int(now_s)))

    def prove(
        self, payload: bytes, tokens: Tokens
    ) -> tuple[ProvenClaim, EnrolmentClaim]:
        """Checks a claim's proof.

        Returns:
          What it proves, and the message. Of a newcomer that is not known yet,
          `require_good` and `require_fresh` are still to be asked.

        Raises:
          ProtocolError: If it is malformed, names no token of its kind, or its maker
            does not hold that token's secret.
        """
        claim = CLAIM.unpack(payload)
        token = _token(tokens, claim.hello)
        # The proof first: whoever lacks the secret learns nothing about the document or
        # about us.
        proven = check_claim(token.keys, self.authority, claim)
        if claim.challenge.registrar != self.public:
            raise SignatureError("the claim is for another registrar")
        document = _text(claim.hello.document)
        return ProvenClaim(token, document, proven, short_code(proven)), claim

    def require_fresh(self, client: str, claim: EnrolmentClaim, now_s: float) -> None:
        """Refuses a claim whose challenge is not ours, another client's, or old.

        Raises:
          ReplayError: If it is; another challenge is the answer.
        """
        nonce = claim.challenge.nonce
        # The challenge carries its time and our code over it: nothing is kept for
        # whoever says hello.
        made_s = int.from_bytes(nonce[:_TIME_BYTES])
        if not 0 <= now_s - made_s <= CHALLENGE_S:
            raise ReplayError("the challenge is too old")
        # The client's name is in it, so that nobody uses a challenge that another
        # connection got.
        if not hmac.compare_digest(nonce, self._nonce(client, claim.hello, made_s)):
            raise ReplayError("the challenge is not for this claim")

    def _nonce(self, client: str, hello: EnrolmentHello, made_s: int) -> bytes:
        time = made_s.to_bytes(_TIME_BYTES)
        named = hashlib.sha256(client.encode()).digest()
        said = _NONCE_TAG + time + named + HELLO.pack(hello)
        code = hmac.digest(self.nonce_key, said, "sha256")
        return (time + code)[:NONCE_BYTES]


def require_good(token: TokenRecord, now_s: float) -> None:
    """Refuses a token that has expired.

    Raises:
      ProtocolError: Likewise for who holds its secret and who does not.
    """
    if not token.is_good(now_s):
        raise _no_token()


def _token(tokens: Tokens, hello: EnrolmentHello) -> TokenRecord:
    token = tokens.get(hello.token)
    if token is None or token.kind != hello.kind:
        raise _no_token()
    return token


def _text(document: bytes) -> str:
    try:
        return document.decode()
    except UnicodeDecodeError as error:
        # A parser of JSON would take UTF-16, too, and no file of ours is in it.
        raise DecodeError("the document is not UTF-8") from error


def _no_token() -> ProtocolError:
    # One answer for all of it: who does not hold the secret learns nothing of a token.
    return ProtocolError(
        "no such token: it expired, was revoked, or is for another kind of client; "
        "ask for another",
        Reason.NOT_AUTHORISED,
    )
