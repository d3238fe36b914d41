"""Cache of blobs that boards pull, read from the store."""

from collections import OrderedDict

from starling.coordinator.boards import finality_proofs
from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.protocol.chain.light_client import FinalityProof
from starling.protocol.ids import Digest
from starling.protocol.wire.envelope import ENVELOPE, Envelope

CACHE_BYTES_MAX = 64 << 20
"""Of wholes that are kept; the one that was asked for last is kept whatever its size,
since its next chunks will be asked for next."""


class BlobCache:
    """The wholes that came or were asked for last: to read a long one takes time."""

    def __init__(self, store: ChainStore) -> None:
        """Starts empty."""
        self._store = store
        self._wholes: OrderedDict[Digest, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, digest: Digest) -> bytes | None:
        """A whole by its digest; None if the store has none."""
        known = self._wholes.get(digest)
        if known is not None:
            self._wholes.move_to_end(digest)
            return known
        whole = self._store.blob(digest)
        if whole is not None:
            self.keep(digest, whole)
        return whole

    def keep(self, digest: Digest, whole: bytes) -> None:
        """Takes in what was just stored: it will be asked for next."""
        self._bytes += len(whole) - len(self._wholes.pop(digest, b""))
        self._wholes[digest] = whole
        while self._bytes > CACHE_BYTES_MAX and len(self._wholes) > 1:
            _, dropped = self._wholes.popitem(last=False)
            self._bytes -= len(dropped)


def update_of(store: ChainStore, transaction: Digest) -> Envelope | None:
    """An update that is kept, or stands in a stored block."""
    kept = store.upload(transaction)
    if kept is not None:
        return kept.update
    location = store.locate(transaction)
    stored = None if location is None else store.block(location.height)
    if location is None or stored is None:
        return None
    return ENVELOPE.unpack(stored.block.transactions[location.place])


def final_of(store: ChainStore, transaction: Digest) -> FinalityProof | None:
    """The proof that a transaction stands in a stored block; None if it does not."""
    location = store.locate(transaction)
    stored = None if location is None else store.block(location.height)
    if location is None or stored is None:
        return None
    block = stored.block
    return finality_proofs.final(
        ENVELOPE.unpack(block.transactions[location.place]),
        block.header,
        stored.certificate,
        location.place,
        finality_proofs.AuditPaths(block.transactions),
    )
