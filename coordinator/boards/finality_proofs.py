"""Proofs that boards ask for: a version's manifest, and an update's finality."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from starling.coordinator.chain.node.node import ChainState
from starling.coordinator.chain.state import (
    board_records,
    closure_records,
    rollback_records,
    task_records,
)
from starling.coordinator.chain.tasks import evaluations
from starling.coordinator.chain.verification.receipt import Receipt, StateEntry
from starling.coordinator.step.state import TaskState
from starling.protocol.chain.blocks import (
    CERTIFICATE,
    HEADER,
    Block,
    Certificate,
    Header,
)
from starling.protocol.chain.board_statement import BoardStatement
from starling.protocol.chain.light_client import (
    FinalityProof,
    ModelManifest,
    ValidatorSetTransition,
)
from starling.protocol.crypto import merkle
from starling.protocol.crypto.state_tree import StateProof
from starling.protocol.ids import DeviceId, Digest, TaskId, Version
from starling.protocol.learning.end_policy import is_good_enough
from starling.protocol.schema.msgpack_codec import encode
from starling.protocol.wire.envelope import Envelope

_ARRAY_OF_6 = b"\x96"
"""msgpack's header of an array of six: the fields of `FinalityProof`."""


def manifest(
    ledger: ChainState,
    task: TaskState,
    handovers: tuple[ValidatorSetTransition, ...] = (),
) -> ModelManifest | None:
    """The newest version of a task, proven under the newest header.

    Args:
      ledger: The chain.
      task: Which task.
      handovers: What leads boards to that header's validators.

    Returns:
      None before the first block.
    """
    if ledger.header is None or ledger.certificate is None:
        return None
    return ModelManifest(
        task.number,
        task.head,
        task.model,
        ledger.header,
        ledger.certificate,
        task_records.VERSIONS.prove(ledger.tree, task.number, task.head),
        task_records.TASKS.prove(ledger.tree, task.number),
        handovers,
        _rollback(ledger, task),
        _end(ledger, task),
    )


def version(ledger: ChainState, task: TaskId, number: Version) -> Receipt | None:
    """A version's digest, proven under the newest header; changes of validators not.

    Returns:
      None before the first block, and where the state does not know the version.
    """
    known = task_records.version(ledger.tree, task, number)
    if known is None or ledger.header is None or ledger.certificate is None:
        return None
    shown = task_records.VERSIONS.prove(ledger.tree, task, number)
    return Receipt((), None, StateEntry(ledger.header, ledger.certificate, shown))


def _rollback(ledger: ChainState, task: TaskState) -> StateProof | None:
    """Proof of a task's newest rollback; None without any."""
    version = rollback_records.newest_rollback(ledger.tree, task.number)
    # Beyond the head that is shown here boards could not follow it.
    if not 0 < version <= task.head:
        return None
    return rollback_records.ROLLBACKS.prove(ledger.tree, task.number, version)


def _end(ledger: ChainState, task: TaskState) -> StateProof | None:
    """Proof of what ended a task; None if nothing did, or its version or its time."""
    if closure_records.closure(ledger.tree, task.number) is not None:
        return closure_records.CLOSURES.prove(ledger.tree, task.number)
    if is_good_enough(task.spec.end, evaluations.task_loss(ledger.tree, task.number)):
        return evaluations.GUARDS.prove(ledger.tree, task.number)
    return None


def statement(
    ledger: ChainState, device: DeviceId, task: TaskId, asked: Digest
) -> BoardStatement | None:
    """A board's record, proven under the newest header.

    Args:
      ledger: The chain.
      device: Whose; it is registered.
      task: Whose head goes with it; it is published.
      asked: Id of the check-in that asks for it.

    Returns:
      None before the first block.
    """
    if ledger.header is None or ledger.certificate is None:
        return None
    record = board_records.BOARDS.prove(ledger.tree, device)
    progress = task_records.PROGRESS.prove(ledger.tree, task)
    return BoardStatement(asked, ledger.header, ledger.certificate, record, progress)


def final(
    envelope: Envelope,
    header: Header,
    certificate: Certificate,
    index: int,
    paths: Sequence[tuple[Digest, ...]],
) -> FinalityProof:
    """Proof that the transaction at `index` is in a certified block."""
    return FinalityProof(envelope, header, certificate, index, len(paths), paths[index])


@dataclass(frozen=True)
class BlockProofs:
    """Packs the finality proofs of one block's transactions.

    A packed `FinalityProof` is an array of its packed fields, so that header and
    certificate are packed once for a block instead of once for each of its updates.
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
            AuditPaths(block.transactions),
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


class AuditPaths(Sequence[tuple[Digest, ...]]):
    """The audit paths of all entries, over a tree that is hashed once.

    `merkle.path` hashes the whole tree for each entry, which is quadratic for a block.
    """

    def __init__(self, entries: Sequence[bytes]) -> None:
        """Hashes the tree."""
        self._levels = merkle.levels([merkle.leaf_hash(entry) for entry in entries])

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._levels[0])

    @overload
    def __getitem__(self, index: int) -> tuple[Digest, ...]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[Digest, ...]]: ...

    def __getitem__(
        self, index: int | slice
    ) -> tuple[Digest, ...] | Sequence[tuple[Digest, ...]]:
        """The path of one entry, from its leaf upwards; or those of several."""
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return merkle.path_in(self._levels, range(len(self))[index])
