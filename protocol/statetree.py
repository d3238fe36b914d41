"""The chain's state: keys to values, under one Merkle root, with short proofs.

A key falls into one of 256 buckets by the first byte of its hash. A bucket is an RFC
6962 tree over its sorted entries, and the root is such a tree over the 256 bucket
roots. A write copies one bucket, so that states share what they have in common and an
old one stays valid: the state machine is a pure function without copying the state.
The hashes above the buckets are kept, so that a root costs the buckets that changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from protocol import merkle
from protocol.codec import binary, encode, exactly, many, structure, uint
from protocol.errors import ProofError
from protocol.ids import DIGEST_BYTES, Digest, H

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
        level = [merkle.node_hash(level[0], level[0])] * (len(level) // 2)
        nodes = level + nodes
    return [nodes[0], *nodes]


_EMPTY_NODES = tuple(_empty_nodes())


def bucket_of(key: bytes) -> int:
    """Which bucket a key falls into."""
    return H(b"starling/bucket/1", key)[0]


def _entry(key: bytes, value: bytes) -> bytes:
    return encode([key, value])


@dataclass(frozen=True)
class StateProof:
    """That a key has a value under a state root.

    Attributes:
      key: The key.
      value: Its value.
      index: The entry's place in its bucket.
      size: The bucket's number of entries.
      path: From the entry to its bucket's root, then through the 8 top levels.
    """

    key: bytes
    value: bytes
    index: int
    size: int
    path: tuple[Digest, ...]

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
        bucket_root = merkle.root_from_path(leaf, self.index, self.size, below)
        return merkle.root_from_path(
            merkle.leaf_hash(bucket_root), bucket_of(self.key), BUCKETS, above
        )


STATE_PROOF = structure(
    StateProof,
    VALUE_BYTES_MAX + 2048,
    binary(KEY_BYTES_MAX, 1),
    binary(VALUE_BYTES_MAX),
    uint(1 << 40),
    uint(1 << 40),
    many(exactly(DIGEST_BYTES), merkle.PATH_MAX + _TOP_LEVELS),
)


@dataclass(frozen=True)
class StateTree:
    """An immutable state.

    Attributes:
      buckets: 256 dictionaries that are never written to after they stand here.
    """

    buckets: tuple[dict[bytes, bytes], ...] = (_EMPTY,) * BUCKETS
    # A heap: node i stands over nodes 2i and 2i + 1, bucket b's leaf is node 256 + b.
    # Filled in when asked for; None where a bucket below changed since.
    _nodes: list[Digest | None] = field(
        default_factory=lambda: list(_EMPTY_NODES), repr=False, compare=False
    )
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
        nodes = list(self._nodes)
        hashes = list(self._hashes)
        copied: set[int] = set()
        for key, value in changes.items():
            number = bucket_of(key)
            if number not in copied:
                buckets[number] = dict(buckets[number])
                hashes[number] = dict(hashes[number])
                copied.add(number)
                node = BUCKETS + number
                while node and nodes[node] is not None:
                    nodes[node] = None
                    node //= 2
            hashes[number].pop(key, None)
            if value is None:
                buckets[number].pop(key, None)
            else:
                buckets[number][key] = value
        return StateTree(tuple(buckets), nodes, hashes)

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
        return self._node(1)

    def _node(self, number: int) -> Digest:
        known = self._nodes[number]
        if known is None:
            if number >= BUCKETS:
                bucket_root = merkle.root_of_hashes(self._leaves(number - BUCKETS))
                known = merkle.leaf_hash(bucket_root)
            else:
                left, right = self._node(2 * number), self._node(2 * number + 1)
                known = merkle.node_hash(left, right)
            self._nodes[number] = known
        return known

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
        index = sorted(bucket).index(key)
        below = merkle.path_of_hashes(self._leaves(number), index)
        above = self._path_above(number)
        return StateProof(key, bucket[key], index, len(bucket), (*below, *above))

    def _path_above(self, number: int) -> list[Digest]:
        self.root()
        node = BUCKETS + number
        path = []
        while node > 1:
            path.append(self._node(node ^ 1))
            node //= 2
        return path
