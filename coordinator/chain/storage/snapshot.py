"""Snapshots of the state, which prove themselves under a certified header.

A manifest names the roots of all buckets of the state; together they lead to the
header's state root, so that each bucket is checked by itself as it comes. Nobody needs
to be trusted, neither a peer that gives a snapshot nor the disk that kept it.

Source: CometBFT ADR-053 (state sync), where only the whole is checked against the root.
"""

from collections.abc import Mapping
from typing import Annotated

from starling.protocol.chain.blocks import Certificate, Header
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.crypto.state_tree import (
    BUCKETS,
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    bucket_of,
    bucket_root,
    root_of_buckets,
)
from starling.protocol.errors import ProofError
from starling.protocol.ids import Digest
from starling.protocol.schema.msgpack_codec import (
    Structure,
    binary,
    many,
    structure,
)

SNAPSHOT_BLOCKS = 1000
"""A snapshot is taken at a multiple of this height,"""
SNAPSHOT_S = 600
"""if the last one is so old by its header: whoever fetches one has the time to."""
SNAPSHOTS_KEPT = 2
BUCKET_BYTES_MAX = 4 << 20
_ENTRIES_MAX = 1 << 16


def is_due(header: Header, last: Header | None) -> bool:
    """True if a snapshot is to be taken of the state after a block.

    Args:
      header: Of the block.
      last: Of the block whose state was taken last; None if none was.
    """
    if header.height % SNAPSHOT_BLOCKS:
        return False
    return last is None or header.time_ms >= last.time_ms + 1000 * SNAPSHOT_S


class SnapshotManifest(Structure, frozen=True):
    """Parts of a snapshot.

    Attributes:
      header: Whose `state_root` it is of.
      certificate: Of the header.
      buckets: The roots of the 256 buckets, in order.
    """

    header: Header
    certificate: Certificate
    buckets: Annotated[tuple[Digest, ...], many(BUCKETS, BUCKETS)]

    def check(self, trusted: TrustedState) -> None:
        """Believes the manifest, or says why not.

        Raises:
          ProofError, SignatureError: If it is not of a certified state.
        """
        trusted.accept(self.header, self.certificate)
        if root_of_buckets(self.buckets) != self.header.state_root:
            raise ProofError("the buckets do not lead to the header's state root")


MANIFEST = structure(SnapshotManifest, 16 * 1024)


class _Entry(Structure, frozen=True):
    key: Annotated[bytes, binary(KEY_BYTES_MAX, 1)]
    value: Annotated[bytes, binary(VALUE_BYTES_MAX)]


class _Bucket(Structure, frozen=True):
    entries: Annotated[tuple[_Entry, ...], many(_ENTRIES_MAX)]


_BUCKET = structure(_Bucket, BUCKET_BYTES_MAX)


def pack_bucket(entries: Mapping[bytes, bytes]) -> bytes:
    """A bucket's entries, sorted by key.

    Raises:
      LimitError: If they are more than a snapshot can hold.
    """
    ordered = tuple(_Entry(key, entries[key]) for key in sorted(entries))
    return _BUCKET.pack(_Bucket(ordered))


def unpack_bucket(packed: bytes, number: int, root: bytes) -> dict[bytes, bytes]:
    """Reads and checks a bucket.

    Args:
      packed: What `pack_bucket` gave.
      number: Which bucket it is said to be.
      root: What a checked manifest says of it.

    Raises:
      ProofError: If it is not that bucket.
      DecodeError, LimitError: If it is none at all.
    """
    bucket = _BUCKET.unpack(packed)
    entries = {entry.key: entry.value for entry in bucket.entries}
    # Packed again, since two entries of one key would be one in the dictionary.
    if bucket_root(entries) != root or pack_bucket(entries) != packed:
        raise ProofError(f"bucket {number} is not the one of the manifest")
    if any(bucket_of(key) != number for key in entries):
        raise ProofError(f"bucket {number} holds keys of another one")
    return entries


def bucketed(state: Mapping[bytes, bytes]) -> list[dict[bytes, bytes]]:
    """A state's entries by bucket."""
    buckets: list[dict[bytes, bytes]] = [{} for _ in range(BUCKETS)]
    for key, value in state.items():
        buckets[bucket_of(key)][key] = value
    return buckets
