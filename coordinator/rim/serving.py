"""What a coordinator that is behind asks for, read from the store without unpacking."""

from coordinator.gossip import (
    BLOCKS_BYTES_MAX,
    BLOCKS_MAX,
    BUCKETS_BYTES_MAX,
    CHANGES_MAX,
    GIVEN_BLOCKS,
    GIVEN_BUCKETS,
    GIVEN_SNAPSHOT,
    GivenBlocks,
    GivenBuckets,
    GivenSnapshot,
    Subject,
    parse_blocks_key,
    parse_buckets_key,
)
from coordinator.ledger.storage import Store
from protocol.errors import DecodeError

Answer = tuple[Subject, bytes]


def blocks(store: Store, key: bytes) -> Answer | None:
    """A range of blocks; the newest snapshot if they were pruned."""
    try:
        first = parse_blocks_key(key)
    except DecodeError:
        return None
    if first < store.first_body():
        return _snapshot(store, first)
    found = store.decisions(first, BLOCKS_MAX, BLOCKS_BYTES_MAX)
    if not found:
        return None
    return Subject.BLOCKS, GIVEN_BLOCKS.pack(GivenBlocks(first, found))


def _snapshot(store: Store, first: int) -> Answer | None:
    heights, ends = store.snapshots(), store.epochs()
    manifest = store.manifest(heights[-1]) if heights else None
    if manifest is None:
        return None
    heights_between = range(first, manifest.header.height + 1)
    passed = [end for end in ends if end.header.height in heights_between]
    given = GivenSnapshot(manifest, tuple(passed[-CHANGES_MAX:]))
    return Subject.SNAPSHOT, GIVEN_SNAPSHOT.pack(given)


def buckets(store: Store, key: bytes) -> Answer | None:
    """Buckets of a snapshot that is kept."""
    try:
        height, first = parse_buckets_key(key)
    except DecodeError:
        return None
    found = store.buckets(height, first, BUCKETS_BYTES_MAX)
    if not found:
        return None
    return Subject.BUCKETS, GIVEN_BUCKETS.pack(GivenBuckets(height, first, found))
