"""Cache of differences between models: many boards lack one and have the same other."""

from collections import OrderedDict

from starling.protocol.ids import DIGEST_BYTES, Digest
from starling.protocol.wire.chunk_deltas import CHUNK_DELTA, ChunkDelta, difference
from starling.protocol.wire.chunks import CHUNK_BYTES

CACHE_BYTES_MAX = 16 << 20
_ENTRY_BYTES = 256
"""Of an entry beside its payload, about."""
_Model = tuple[Digest, bytes]


class DeltaCache:
    """The differences that were asked for last; each is made once while it is here."""

    def __init__(self) -> None:
        """Starts empty."""
        self._payloads: OrderedDict[tuple[Digest, Digest, int], bytes] = OrderedDict()
        self._bytes = 0

    def get(self, base: _Model, newer: _Model, index: int) -> bytes:
        """A packed `ChunkDelta`; empty where a chunk is no longer than it.

        Args:
          base: Digest and bytes of the older model.
          newer: The same of the one that is asked for.
          index: Of the chunk; below `newer`'s number of chunks.
        """
        key = base[0], newer[0], index
        known = self._payloads.get(key)
        if known is None:
            known = self._payloads[key] = _payload(base, newer, index)
            self._bytes += len(known) + _ENTRY_BYTES
        self._payloads.move_to_end(key)
        while self._bytes > CACHE_BYTES_MAX:
            _, dropped = self._payloads.popitem(last=False)
            self._bytes -= len(dropped) + _ENTRY_BYTES
        return known


def _payload(base: _Model, newer: _Model, index: int) -> bytes:
    part = slice(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES)
    digest, blob = newer
    change = difference(base[1][part], blob[part])
    if change is None or len(change) + DIGEST_BYTES >= len(blob[part]):
        return b""
    return CHUNK_DELTA.pack(ChunkDelta(digest, len(blob), index, change, base[0]))
