"""Transactions and contributions as they stand on the wire, each decoded once.

An update's bytes come with the upload, in a proposal and in the block that is decided,
and decoding them again costs as much as executing them.
"""

from coordinator.recent import RecentCodec
from protocol.envelope import ENVELOPE, Envelope
from protocol.messages import CONTRIBUTION, Contribution

KEPT = 1 << 13
"""A transaction of an update takes 1 KB."""
_TRANSACTION = RecentCodec(ENVELOPE, KEPT)
_CONTRIBUTION = RecentCodec(CONTRIBUTION, KEPT)


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
