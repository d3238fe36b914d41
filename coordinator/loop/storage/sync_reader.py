"""Reader for coordinators that are behind: from the store, without unpacking."""

from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.coordinator.wire.frames import (
    BLOCKS_BYTES_MAX,
    BLOCKS_MAX,
    BUCKETS_BYTES_MAX,
    CHANGES_MAX,
    GIVEN_BLOCKS,
    GIVEN_BUCKETS,
    GIVEN_SNAPSHOT,
    BlocksAnswer,
    BucketsAnswer,
    SnapshotAnswer,
    parse_blocks_key,
    parse_buckets_key,
)
from starling.protocol.errors import DecodeError

Answer = tuple[FrameSubject, bytes]


def blocks(store: ChainStore, key: bytes) -> Answer | None:
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
    return FrameSubject.BLOCKS, GIVEN_BLOCKS.pack(BlocksAnswer(first, found))


def _snapshot(store: ChainStore, first: int) -> Answer | None:
    heights, ends = store.snapshots(), store.epochs()
    manifest = store.manifest(heights[-1]) if heights else None
    if manifest is None:
        return None
    heights_between = range(first, manifest.header.height + 1)
    passed = [end for end in ends if end.header.height in heights_between]
    given = SnapshotAnswer(manifest, tuple(passed[-CHANGES_MAX:]))
    return FrameSubject.SNAPSHOT, GIVEN_SNAPSHOT.pack(given)


def buckets(store: ChainStore, key: bytes) -> Answer | None:
    """Buckets of a snapshot that is kept."""
    try:
        height, first = parse_buckets_key(key)
    except DecodeError:
        return None
    found = store.buckets(height, first, BUCKETS_BYTES_MAX)
    if not found:
        return None
    return FrameSubject.BUCKETS, GIVEN_BUCKETS.pack(BucketsAnswer(height, first, found))
