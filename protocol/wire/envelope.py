"""The signed envelope: every message that somebody answers for.

An envelope is `[version, kind, sender, counter, body, signature]`. The signature
covers `tag, chain id, header, H(body)`, so that it binds the chain and that checking
it costs the same whatever the body's length. A transaction is an envelope too: what a
board signs is what the chain stores.

Source: docs/protocol.md; domain separation as in RFC 8032 section 8.3 (contexts).
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Annotated

from msgspec.structs import replace

from starling.protocol.crypto.keys import SigningKey, verify
from starling.protocol.errors import DecodeError, ReplayError
from starling.protocol.ids import (
    SIGNATURE_BYTES,
    ChainId,
    Digest,
    H,
    PublicKey,
)
from starling.protocol.schema.msgpack_codec import (
    Byte,
    Structure,
    Uint,
    binary,
    encode,
    exactly,
    structure,
)

ENVELOPE_VERSION = 1
BODY_BYTES_MAX = 16 * 1024
ENVELOPE_BYTES_MAX = BODY_BYTES_MAX + 256
COUNTER_WINDOW = 64
TAG = b"starling/envelope/1"


class MessageKind(IntEnum):
    """Kind of a body; the numbers are fixed in the wire format."""

    # Transactions, below 64: these enter blocks.
    REGISTER = 1
    REVOKE = 2
    TASK = 3
    UPDATE = 4
    ATTEST = 5
    EVIDENCE = 6
    ROTATE = 7
    OPERATOR = 8
    PRESENT = 9
    FUND = 10
    TRANSFER = 11
    RELEASE = 13  # 12 is not in use.
    SCORE = 14
    VALSET = 15
    PARAM = 16
    UPGRADE = 17
    FORFEIT = 18
    LEARNER = 19
    EVALUATION = 20
    RESUME = 21
    ROLLBACK = 22
    USE = 23
    CLOSE = 24
    # A board speaks.
    CHECK_IN = 64
    CHUNK_REQUEST = 65
    DEVICE_STATE = 66
    HEALTH_REPORT = 67
    # A coordinator speaks.
    LEASE = 80
    ACCEPTED = 81
    REFUSED = 82
    FINAL = 83
    COORDINATOR_STATE = 84
    STATEMENT = 85
    PEER_REQUEST = 86
    HEALTH_REQUEST = 87


class Envelope(Structure, frozen=True, dict=True):
    """A signed message.

    Attributes:
      version: Always `ENVELOPE_VERSION`.
      kind: What the body is.
      sender: The signer's Ed25519 public key.
      counter: Grows with every envelope of this sender and kind, from 1.
      body: The packed structure that `kind` names.
      signature: 64 bytes over `signed_bytes`.
    """

    version: Byte
    kind: Byte
    sender: PublicKey
    counter: Uint
    body: Annotated[bytes, binary(BODY_BYTES_MAX)]
    signature: Annotated[bytes, exactly(SIGNATURE_BYTES)]

    def __post_init__(self) -> None:
        """Refuses other versions; an unknown kind is the receiver's to refuse."""
        if self.version != ENVELOPE_VERSION:
            raise DecodeError(f"envelope version {self.version} is not supported")

    def signed_bytes(self, chain_id: ChainId) -> bytes:
        """Bytes that the signature covers."""
        return b"".join((TAG, chain_id, self._content))

    @cached_property
    def _content(self) -> bytes:
        header = encode([self.version, int(self.kind), self.sender, self.counter])
        # The body by its hash: bodies may be long, and `identity` hashes these bytes
        # again.
        return header + H(self.body)

    def identity(self, chain_id: ChainId) -> Digest:
        """Names the content whatever the signature's bytes: a transaction's id."""
        known = self._identities.get(chain_id)
        if known is None:
            known = self._identities[chain_id] = H(self.signed_bytes(chain_id))
        return known

    @cached_property
    def _identities(self) -> dict[ChainId, Digest]:
        return {}

    def check(self, chain_id: ChainId) -> None:
        """Verifies the signature.

        Raises:
          SignatureError: If `sender` did not sign this on this chain.
        """
        verify(self.sender, self.signed_bytes(chain_id), self.signature)


ENVELOPE = structure(Envelope, ENVELOPE_BYTES_MAX)


def sign(
    key: SigningKey, chain_id: ChainId, kind: MessageKind, counter: int, body: bytes
) -> Envelope:
    """Signs a body. The same arguments give the same bytes.

    Args:
      key: The sender's key.
      chain_id: The chain on which the message means something.
      kind: What `body` is.
      counter: Above every counter the sender used for this kind; the caller has made
        it durable before the envelope leaves.
      body: At most `BODY_BYTES_MAX` bytes.
    """
    bare = Envelope(ENVELOPE_VERSION, int(kind), key.public, counter, body, b"")
    signed = replace(bare, signature=key.sign(bare.signed_bytes(chain_id)))
    # What an envelope keeps is what the signature covers, and never the signature.
    vars(signed).update(vars(bare))
    return signed


@dataclass(frozen=True)
class CounterWindow:
    """Replay window of one sender and kind, as in IPsec.

    Attributes:
      highest: The highest counter admitted, 0 before the first.
      seen: Bit i is set if `highest - i` was admitted.

    Source:
      RFC 4303 section 3.4.3 and appendix A2, with 64 entries.
    """

    highest: int = 0
    seen: int = 0

    def has(self, counter: int) -> bool:
        """True if `counter` was admitted, or is too old to tell."""
        behind = self.highest - counter
        return behind >= 0 and (
            behind >= COUNTER_WINDOW or bool(self.seen >> behind & 1)
        )

    def admit(self, counter: int) -> "CounterWindow":
        """The window after `counter`.

        Raises:
          ReplayError: If it was admitted before or lies `COUNTER_WINDOW` behind.
        """
        if counter > self.highest:
            # Bounded, since a counter may leap by 2^62 and the shift would make a
            # number of as many bits.
            moved = self.seen << min(counter - self.highest, COUNTER_WINDOW) | 1
            return CounterWindow(counter, moved & ((1 << COUNTER_WINDOW) - 1))
        behind = self.highest - counter
        # Counters begin at 1, so that an empty window and a first message differ.
        if counter == 0 or behind >= COUNTER_WINDOW or self.seen >> behind & 1:
            raise ReplayError(f"counter {counter} was used or lies behind the window")
        return CounterWindow(self.highest, self.seen | 1 << behind)
