"""Merkle trees and inclusion proofs.

A leaf is hashed with prefix 0x00 and a node with 0x01, so that neither can pass for
the other; the hash is BLAKE2b-256.

Source: RFC 6962 section 2.1 (tree and path), RFC 9162 section 2.1.3.2 (checking).
"""

import hashlib
from collections.abc import Sequence

from starling.protocol.errors import ProofError
from starling.protocol.ids import DIGEST_BYTES, Digest, H

PATH_MAX = 40
# Copies of hashes that took the prefix: half the price of new ones for short inputs.
_LEAF = hashlib.blake2b(b"\x00", digest_size=DIGEST_BYTES)
_NODE = hashlib.blake2b(b"\x01", digest_size=DIGEST_BYTES)


def leaf_hash(entry: bytes) -> Digest:
    """MTH({d}) = H(0x00, d)."""
    hashed = _LEAF.copy()
    hashed.update(entry)
    return Digest(hashed.digest())


def node_hash(left: bytes, right: bytes) -> Digest:
    """H(0x01, left, right)."""
    hashed = _NODE.copy()
    hashed.update(left + right)
    return Digest(hashed.digest())


EMPTY_ROOT = H()


def levels(hashes: Sequence[Digest]) -> list[list[Digest]]:
    """The whole tree over leaf hashes: the leaves first, the root's level last."""
    tree = [list(hashes)]
    # A level's odd last node moves up unchanged: the same tree as the RFC's split at
    # the largest power of two, built from below.
    while len(level := tree[-1]) > 1:
        pairs = range(0, len(level) - 1, 2)
        above = [node_hash(level[left], level[left + 1]) for left in pairs]
        tree.append(above + level[2 * len(above) :])
    return tree


def root_of_hashes(hashes: Sequence[Digest]) -> Digest:
    """The root over leaf hashes; `EMPTY_ROOT` for none."""
    return levels(hashes)[-1][0] if hashes else EMPTY_ROOT


def root(entries: Sequence[bytes]) -> Digest:
    """The Merkle tree hash of the entries."""
    return root_of_hashes([leaf_hash(entry) for entry in entries])


def path_in(tree: Sequence[Sequence[Digest]], index: int) -> tuple[Digest, ...]:
    """The audit path of the leaf at `index` of a tree of `levels`, from the leaf."""
    assert 0 <= index < len(tree[0])
    path = []
    for level in tree[:-1]:
        sibling = index ^ 1
        # An odd last node moves up without a sibling, and adds nothing to the path.
        if sibling < len(level):
            path.append(level[sibling])
        index //= 2
    return tuple(path)


def path_of_hashes(hashes: Sequence[Digest], index: int) -> tuple[Digest, ...]:
    """The audit path of the leaf at `index`, from the leaf upwards."""
    return path_in(levels(hashes), index)


def path(entries: Sequence[bytes], index: int) -> tuple[Digest, ...]:
    """The audit path PATH(index, entries)."""
    return path_of_hashes([leaf_hash(entry) for entry in entries], index)


def root_from_path(
    leaf: Digest, index: int, size: int, audit_path: Sequence[bytes]
) -> Digest:
    """The root that a leaf and its path lead to.

    Args:
      leaf: Leaf hash.
      index: Position of the leaf.
      size: Number of leaves of the tree.
      audit_path: From the leaf upwards.

    Raises:
      ProofError: If index, size and the path's length do not fit together.

    Source:
      RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} of {size}")
    node, last, here = index, size - 1, leaf
    for sibling in audit_path:
        if last == 0:
            raise ProofError("path is too long")
        # A right child, or the odd last node of its level: the latter met no sibling on
        # the levels that the inner loop skips.
        if node & 1 or node == last:
            here = node_hash(sibling, here)
            while not node & 1 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            here = node_hash(here, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofError("path is too short")
    return here
