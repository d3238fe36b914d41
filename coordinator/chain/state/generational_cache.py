"""Cache of recent results, in bounded memory.

For functions of their arguments that are asked again soon. Kept in two generations:
when the newer one is full, the older one goes.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

from starling.protocol.schema.msgpack_codec import Codec

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
KEPT = 1 << 12
"""Of each of the records that every update reads and writes."""


class GenerationalCache(Generic[_K, _V]):
    """The latest values by key; what it forgets is worked out again.

    Threads may share it: at worst one of them works something out twice.
    """

    def __init__(self, weight_max: int) -> None:
        """Starts empty.

        Args:
          weight_max: Of all that is kept, in whatever `keep` counts.
        """
        self._each = weight_max // 2
        self._newer: dict[_K, _V] = {}
        self._older: dict[_K, _V] = {}
        self._weight = 0

    def get(self, key: _K) -> _V | None:
        """A value, if it is kept."""
        found = self._newer.get(key)
        # Not moved to the newer one on a hit: reading writes nothing, so that threads
        # may.
        return self._older.get(key) if found is None else found

    def keep(self, key: _K, value: _V, weight: int = 1) -> None:
        """Keeps a value, which weighs so much."""
        if self._weight + weight > self._each:
            self._older, self._newer, self._weight = self._newer, {}, 0
        # Heavier than a generation it would push out all the rest.
        if weight <= self._each:
            self._newer[key] = value
            self._weight += weight

    def __len__(self) -> int:
        """Number of cached results."""
        return len(self._newer) + len(self._older)


class CachedCodec(Generic[_V]):
    """A codec that knows what it packed or unpacked lately.

    Reading is a function of the bytes, and most of what is read was written a moment
    ago: what boards sent stands in the block after, what the state machine wrote is
    what it reads next.
    """

    def __init__(self, codec: Codec[_V], count_max: int) -> None:
        """Starts empty.

        Args:
          codec: Of frozen structures.
          count_max: Of structures that are kept.
        """
        self._codec = codec
        self._known: GenerationalCache[bytes, _V] = GenerationalCache(count_max)

    def pack(self, value: _V) -> bytes:
        """As `Codec.pack`."""
        packed = self._codec.pack(value)
        self._known.keep(packed, value)
        return packed

    def unpack(self, packed: bytes) -> _V:
        """As `Codec.unpack`; nothing is kept of what that refuses."""
        known = self._known.get(packed)
        if known is None:
            known = self._codec.unpack(packed)
            self._known.keep(packed, known)
        return known
