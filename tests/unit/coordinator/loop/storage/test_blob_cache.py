"""What is remembered of blobs that were read or have just come."""

import pytest

from starling.coordinator.loop.storage import blob_cache
from starling.coordinator.loop.storage.blob_cache import BlobCache
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.ids import Digest, H
from tests.unit.coordinator.fixtures.small_chain import SmallChain


class Counting(SqliteStore):
    """Counts what is read."""

    reads = 0

    def blob(self, digest: bytes) -> bytes | None:
        self.reads += 1
        return super().blob(digest)


@pytest.fixture
def store() -> Counting:
    return Counting.in_memory(SmallChain().genesis)


def put(store: Counting, content: bytes) -> Digest:
    with store.transaction():
        return store.put_blob(content)


def test_whole_is_read_once(store: Counting) -> None:
    cache, digest = BlobCache(store), put(store, b"whole")
    assert [cache.get(digest) for _ in range(3)] == [b"whole"] * 3
    assert store.reads == 1


def test_whole_that_has_just_come_is_not_read(store: Counting) -> None:
    cache, digest = BlobCache(store), put(store, b"whole")
    cache.keep(digest, b"whole")
    assert cache.get(digest) == b"whole"
    assert store.reads == 0


def test_absent_whole_is_looked_for_each_time(store: Counting) -> None:
    cache = BlobCache(store)
    assert cache.get(H(b"whole")) is None
    put(store, b"whole")
    assert cache.get(H(b"whole")) == b"whole"


def test_cache_keeps_what_came_last(
    store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_cache, "CACHE_BYTES_MAX", 10)
    cache = BlobCache(store)
    digests = [put(store, bytes([number]) * 4) for number in range(3)]
    for number, digest in enumerate(digests):
        # Again, which must not count twice.
        for _ in range(3):
            cache.keep(digest, bytes([number]) * 4)
    for digest in digests[::-1]:
        cache.get(digest)
    assert store.reads == 1
    long = put(store, bytes(100))
    cache.get(long)
    cache.get(long)
    assert store.reads == 2
