"""Proofs that boards ask for: a version's manifest, and an update's finality."""

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.ledger.node import LedgerState
from coordinator.state import TaskState
from protocol import merkle
from protocol.chain import CERTIFICATE, HEADER, Block, Certificate, Header
from protocol.codec import encode
from protocol.envelope import Envelope
from protocol.ids import Digest
from protocol.light import Final, Manifest, task_key, version_key

_ARRAY_OF_6 = b"\x96"
"""msgpack's header of an array of six: the fields of `Final`."""


def manifest(ledger: LedgerState, task: TaskState) -> Manifest | None:
    """The newest version of a task, proven under the newest header.

    Returns:
      None before the first block.
    """
    if ledger.header is None or ledger.certificate is None:
        return None
    return Manifest(
        task.number,
        task.head,
        task.model,
        ledger.header,
        ledger.certificate,
        ledger.tree.prove(version_key(task.number, task.head)),
        ledger.tree.prove(task_key(task.number)),
    )


def final(
    envelope: Envelope,
    header: Header,
    certificate: Certificate,
    index: int,
    paths: Sequence[tuple[Digest, ...]],
) -> Final:
    """That the transaction at `index` stands in a certified block."""
    return Final(envelope, header, certificate, index, len(paths), paths[index])


@dataclass(frozen=True)
class BlockProofs:
    """Packs the finality proofs of one block's transactions.

    A packed `Final` is an array of its packed fields, so that header and certificate
    are packed once for a block instead of once for each of its updates.
    """

    transactions: tuple[bytes, ...]
    header: bytes
    certificate: bytes
    paths: Sequence[tuple[Digest, ...]]

    @classmethod
    def of(cls, block: Block, certificate: Certificate) -> "BlockProofs":
        """Prepares the proofs of a block."""
        return cls(
            block.transactions,
            HEADER.pack(block.header),
            CERTIFICATE.pack(certificate),
            audit_paths(block.transactions),
        )

    def packed(self, index: int) -> bytes:
        """`FINAL.pack` of the proof that the transaction at `index` is final."""
        place = encode(index) + encode(len(self.transactions))
        return b"".join(
            (
                _ARRAY_OF_6,
                self.transactions[index],
                self.header,
                self.certificate,
                place,
                encode(self.paths[index]),
            )
        )


def audit_paths(entries: Sequence[bytes]) -> list[tuple[Digest, ...]]:
    """The audit paths of all entries, in one pass over the tree.

    `merkle.path` hashes the whole tree for each entry, which is quadratic for a block.
    """
    level = [merkle.leaf_hash(entry) for entry in entries]
    paths: list[list[Digest]] = [[] for _ in entries]
    # Which entries stand under each node of the level.
    below: list[list[int]] = [[index] for index in range(len(entries))]
    while len(level) > 1:
        following: list[Digest] = []
        merged: list[list[int]] = []
        for left in range(0, len(level) - 1, 2):
            right = left + 1
            for index in below[left]:
                paths[index].append(level[right])
            for index in below[right]:
                paths[index].append(level[left])
            following.append(merkle.node_hash(level[left], level[right]))
            merged.append(below[left] + below[right])
        if len(level) % 2:
            following.append(level[-1])
            merged.append(below[-1])
        level, below = following, merged
    return [tuple(path) for path in paths]
