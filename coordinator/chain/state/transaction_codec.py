"""Transactions and contributions as they stand on the wire, each decoded once.

An update's bytes come with the upload, in a proposal and in the block that is decided,
and decoding them again costs as much as executing them.
"""

from starling.coordinator.chain.state.generational_cache import CachedCodec
from starling.protocol.wire.envelope import ENVELOPE, Envelope
from starling.protocol.wire.message_bodies import CONTRIBUTION, Contribution

KEPT = 1 << 13
"""A transaction of an update takes 1 KB."""
_TRANSACTION = CachedCodec(ENVELOPE, KEPT)
_CONTRIBUTION = CachedCodec(CONTRIBUTION, KEPT)


def pack(envelope: Envelope) -> bytes:
    """The bytes of a transaction."""
    return _TRANSACTION.pack(envelope)


def unpack(packed: bytes) -> Envelope:
    """Reads a transaction.

    Raises:
      DecodeError, LimitError: As `ENVELOPE.unpack`.
    """
    return _TRANSACTION.unpack(packed)


def contribution(body: bytes) -> Contribution:
    """Reads the body of an update.

    Raises:
      DecodeError, LimitError: As `CONTRIBUTION.unpack`.
    """
    return _CONTRIBUTION.unpack(body)
