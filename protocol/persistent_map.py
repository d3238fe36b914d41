"""An immutable map by bytes: a change copies one of 256 buckets, not the whole.

States of thousands of boards change with every message, and a pure step must not copy
them. Keys are ids and digests, whose first byte is as good as random, so that buckets
stay even. Iteration is sorted by key, never by insertion.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_V = TypeVar("_V")
BUCKETS = 256
_EMPTY: dict[bytes, Any] = {}


@dataclass(frozen=True)
class PersistentMap(Generic[_V]):
    """A map that is never changed, only followed by another one.

    Attributes:
      buckets: 256 dictionaries, by the first byte of the key; never written to.
      size: Number of entries.
    """

    buckets: tuple[dict[bytes, _V], ...] = (_EMPTY,) * BUCKETS
    size: int = 0

    def get(self, key: bytes) -> _V | None:
        """The value of a key, or None."""
        return self.buckets[key[0]].get(key)

    def put(self, key: bytes, value: _V) -> "PersistentMap[_V]":
        """The map in which `key`, at least one byte, has `value`."""
        number = key[0]
        bucket = self.buckets[number]
        added = 0 if key in bucket else 1
        return self._with(number, {**bucket, key: value}, self.size + added)

    def without(self, *keys: bytes) -> "PersistentMap[_V]":
        """The map without some keys; the same one if it has none of them."""
        buckets = list(self.buckets)
        copied: set[int] = set()
        size = self.size
        for key in keys:
            number = key[0]
            if key not in buckets[number]:
                continue
            # However many keys go, each bucket is copied once.
            if number not in copied:
                buckets[number] = dict(buckets[number])
                copied.add(number)
            del buckets[number][key]
            size -= 1
        return PersistentMap(tuple(buckets), size) if copied else self

    def values(self) -> Iterator[_V]:
        """All values, in no order."""
        for bucket in self.buckets:
            yield from bucket.values()

    def first(self) -> tuple[bytes, _V] | None:
        """The entry with the smallest key, or None; looks at one full bucket."""
        if not self.size:
            return None
        for bucket in self.buckets:
            if bucket:
                key = min(bucket)
                return key, bucket[key]
        return None

    def items(self) -> Iterator[tuple[bytes, _V]]:
        """All entries, sorted by key."""
        for bucket in self.buckets:
            yield from sorted(bucket.items(), key=lambda item: item[0])

    def __len__(self) -> int:
        """Number of entries."""
        return self.size

    def _with(
        self, number: int, bucket: dict[bytes, _V], size: int
    ) -> "PersistentMap[_V]":
        buckets = list(self.buckets)
        buckets[number] = bucket
        return PersistentMap(tuple(buckets), size)
