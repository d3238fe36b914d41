"""Cache of blobs that boards pull, read from the store."""

from collections import OrderedDict

from starling.coordinator.boards import finality_proofs
from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.protocol.chain.light_client import FinalityProof
from starling.protocol.ids import Digest
from starling.protocol.wire.envelope import ENVELOPE, Envelope

CACHE_BYTES_MAX = 64 << 20
"""Of blobs that are kept; the one that was asked for last is kept whatever its size,
since its next chunks will be asked for next."""


class BlobCache:
    """The blobs that came or were asked for last: to read a long one takes time."""

    def __init__(self, store: ChainStore) -> None:
        """Starts empty."""
        self._store = store
        self._blobs: OrderedDict[Digest, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, digest: Digest) -> bytes | None:
        """A blob by its digest; None if the store has none."""
        known = self._blobs.get(digest)
        if known is not None:
            self._blobs.move_to_end(digest)
            return known
        blob = self._store.blob(digest)
        if blob is not None:
            self.keep(digest, blob)
        return blob

    def keep(self, digest: Digest, blob: bytes) -> None:
        """Takes in what was just stored: it will be asked for next."""
        self._bytes += len(blob) - len(self._blobs.pop(digest, b""))
        self._blobs[digest] = blob
        while self._bytes > CACHE_BYTES_MAX and len(self._blobs) > 1:
            _, dropped = self._blobs.popitem(last=False)
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
