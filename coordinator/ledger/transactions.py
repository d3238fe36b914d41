"""Transactions and contributions as they stand on the wire, each decoded once.

An update's bytes come with the upload, in a proposal and in the block that is decided,
and decoding them again costs as much as executing them. Decoding is a function of the
bytes, so what was found for the latest of them is kept.
"""

from functools import lru_cache

from coordinator.recent import Recent
from protocol.envelope import ENVELOPE, Envelope
from protocol.messages import CONTRIBUTION, Contribution

KEPT = 1 << 13
"""A transaction of an update takes 1 KB."""
_known: Recent[bytes, Envelope] = Recent(KEPT)


def pack(envelope: Envelope) -> bytes:
    """The bytes of a transaction, remembered for `unpack`."""
    packed = ENVELOPE.pack(envelope)
    _known.keep(packed, envelope)
    return packed


def unpack(packed: bytes) -> Envelope:
    """Reads a transaction.

    Raises:
      DecodeError, LimitError: As `ENVELOPE.unpack`; nothing is kept of such bytes.
    """
    known = _known.get(packed)
    if known is None:
        known = ENVELOPE.unpack(packed)
        _known.keep(packed, known)
    return known


@lru_cache(maxsize=KEPT // 2)
def contribution(body: bytes) -> Contribution:
    """Reads the body of an update.

    Raises:
      DecodeError, LimitError: As `CONTRIBUTION.unpack`.
    """
    return CONTRIBUTION.unpack(body)
