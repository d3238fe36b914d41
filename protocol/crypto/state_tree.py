"""The chain's state: keys to values, under one Merkle root, with short proofs.

A key falls into one of 256 buckets by the first byte of its hash. A bucket is an RFC
6962 tree over its sorted entries, and the root is such a tree over the 256 bucket
roots. A write copies one bucket, so that states share what they have in common and an
old one stays valid: the state machine is a pure function without copying the state.
The hashes above the buckets are kept, so that a root costs the buckets that changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Annotated

from starling.protocol.crypto import merkle
from starling.protocol.errors import ProofError
from starling.protocol.ids import Digest, H
from starling.protocol.schema.msgpack_codec import (
    Structure,
    binary,
    encode,
    many,
    structure,
    uint,
)

BUCKETS = 256
KEY_BYTES_MAX = 128
VALUE_BYTES_MAX = 16 * 1024
_TOP_LEVELS = 8
_EMPTY: dict[bytes, bytes] = {}
_NO_HASHES: dict[bytes, Digest] = {}


def _empty_nodes() -> list[Digest]:
    level = [merkle.leaf_hash(merkle.EMPTY_ROOT)] * BUCKETS
    nodes = level
    while len(level) > 1:
        # All nodes of a level are equal where every bucket is empty.
        level = [merkle.node_hash(level[0], level[0])] * (len(level) // 2)
        nodes = level + nodes
    return [nodes[0], *nodes]


_EMPTY_NODES = tuple(_empty_nodes())


@lru_cache(maxsize=1 << 14)
def bucket_of(key: bytes) -> int:
    """Index of the bucket that a key falls into."""
    return H(b"starling/bucket/1", key)[0]


def bucket_root(entries: Mapping[bytes, bytes]) -> Digest:
    """The root of one bucket with these entries."""
    ordered = sorted(entries.items())
    return merkle.root([_entry(key, value) for key, value in ordered])


def root_of_buckets(roots: Sequence[bytes]) -> Digest:
    """The state root over the roots of all buckets, in order."""
    return merkle.root(roots)


def _entry(key: bytes, value: bytes) -> bytes:
    return encode([key, value])


class StateProof(Structure, frozen=True, dict=True):
    """Proof that a key has a value under a state root.

    Attributes:
      key: The key.
      value: Its value.
      index: The entry's place in its bucket.
      size: The bucket's number of entries.
      path: From the entry to its bucket's root, then through the 8 top levels.
    """

    key: Annotated[bytes, binary(KEY_BYTES_MAX, 1)]
    value: Annotated[bytes, binary(VALUE_BYTES_MAX)]
    index: Annotated[int, uint(1 << 40)]
    size: Annotated[int, uint(1 << 40)]
    path: Annotated[tuple[Digest, ...], many(merkle.PATH_MAX + _TOP_LEVELS)]

    def root(self) -> Digest:
        """The state root that this proof leads to.

        Raises:
          ProofError: If the proof does not fit together.
        """
        return self._root

    @cached_property
    def _root(self) -> Digest:
        below = self.path[: max(0, len(self.path) - _TOP_LEVELS)]
        above = self.path[len(below) :]
        leaf = merkle.leaf_hash(_entry(self.key, self.value))
        # The bucket follows from the key and is not told: a proof cannot place a key
        # elsewhere.
        bucket_root = merkle.root_from_path(leaf, self.index, self.size, below)
        return merkle.root_from_path(
            merkle.leaf_hash(bucket_root), bucket_of(self.key), BUCKETS, above
        )


STATE_PROOF = structure(StateProof, VALUE_BYTES_MAX + 2048)


@dataclass(frozen=True)
class StateTree:
    """An immutable state.

    Attributes:
      buckets: 256 dictionaries that are never written to after they stand here.
    """

    buckets: tuple[dict[bytes, bytes], ...] = (_EMPTY,) * BUCKETS
    # A heap: node i stands over nodes 2i and 2i + 1, bucket b's leaf is node 256 + b.
    # Nodes over a stale bucket are those of an earlier state, until the root is asked.
    _nodes: list[Digest] = field(
        default_factory=lambda: list(_EMPTY_NODES), repr=False, compare=False
    )
    _stale: set[int] = field(default_factory=set, repr=False, compare=False)
    # By bucket: hashes of entries, sorted by key if there is one for each entry; those
    # of keys that changed since are missing. Replaced as a whole, never written to.
    _hashes: list[dict[bytes, Digest]] = field(
        default_factory=lambda: [_NO_HASHES] * BUCKETS, repr=False, compare=False
    )

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        return self.buckets[bucket_of(key)].get(key)

    def update(self, changes: dict[bytes, bytes | None]) -> "StateTree":
        """The state after some writes; None removes a key."""
        buckets = list(self.buckets)
        hashes = list(self._hashes)
        copied: set[int] = set()
        for key, value in changes.items():
            number = bucket_of(key)
            if number not in copied:
                buckets[number] = dict(buckets[number])
                hashes[number] = dict(hashes[number])
                copied.add(number)
            hashes[number].pop(key, None)
            if value is None:
                buckets[number].pop(key, None)
            else:
                buckets[number][key] = value
        return StateTree(
            tuple(buckets), list(self._nodes), self._stale | copied, hashes
        )

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All entries whose key starts with `prefix`, sorted by key.

        Looks at every entry: for snapshots, tests and people, not for the state
        machine's way.
        """
        found = [
            (key, value)
            for bucket in self.buckets
            for key, value in bucket.items()
            if key.startswith(prefix)
        ]
        return iter(sorted(found))

    def root(self) -> Digest:
        """The state root; only buckets that changed are hashed again."""
        if self._stale:
            self._hash_stale()
        return self._nodes[1]

    def _hash_stale(self) -> None:
        nodes = self._nodes
        level = []
        for number in sorted(self._stale):
            bucket_root = merkle.root_of_hashes(self._leaves(number))
            # Hashed as a leaf, so that a bucket's root cannot pass for a node above the
            # buckets.
            nodes[BUCKETS + number] = merkle.leaf_hash(bucket_root)
            level.append(BUCKETS + number)
        self._stale.clear()
        for _ in range(_TOP_LEVELS):
            above: list[int] = []
            node = 0
            for below in level:
                # Sorted, so that the two nodes below one stand side by side.
                if below // 2 != node:
                    node = below // 2
                    nodes[node] = merkle.node_hash(nodes[2 * node], nodes[2 * node + 1])
                    above.append(node)
            level = above

    def _leaves(self, number: int) -> list[Digest]:
        bucket, known = self.buckets[number], self._hashes[number]
        if len(known) != len(bucket):
            known = {
                key: known.get(key) or merkle.leaf_hash(_entry(key, bucket[key]))
                for key in sorted(bucket)
            }
            self._hashes[number] = known
        return list(known.values())

    def prove(self, key: bytes) -> StateProof:
        """The proof that `key` has its value.

        Raises:
          ProofError: If the key is absent.
        """
        number = bucket_of(key)
        bucket = self.buckets[number]
        if key not in bucket:
            raise ProofError(f"no such key in the state: {key!r}")
        # Leaves stand in the order of keys, whatever the order of writes.
        index = sorted(bucket).index(key)
        below = merkle.path_of_hashes(self._leaves(number), index)
        above = self._path_above(number)
        return StateProof(key, bucket[key], index, len(bucket), (*below, *above))

    def _path_above(self, number: int) -> list[Digest]:
        self.root()
        node = BUCKETS + number
        path = []
        while node > 1:
            path.append(self._nodes[node ^ 1])
            node //= 2
        return path
