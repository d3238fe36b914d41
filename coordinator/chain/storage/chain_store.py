"""Interface of a coordinator's chain store.

`coordinator.runtime.storage.sqlite_store` keeps it on disk, or in memory for fleets in
one process; one suite in tests/contract runs both.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from starling.coordinator.chain.storage.snapshot import SnapshotManifest
from starling.protocol.chain.blocks import Block, Certificate, Header
from starling.protocol.chain.genesis import Genesis, ValidatorSet
from starling.protocol.chain.light_client import ValidatorSetTransition
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.ids import Digest
from starling.protocol.learning.task import ModelDigests
from starling.protocol.wire.envelope import Envelope


@dataclass(frozen=True)
class StoredBlock:
    """A block and what proves it final."""

    block: Block
    certificate: Certificate


@dataclass(frozen=True)
class StoredHeader:
    """A header and what proves it; it stays when the block's transactions go."""

    header: Header
    certificate: Certificate


@dataclass(frozen=True)
class StoredHead:
    """End of a stored chain.

    Attributes:
      header: Of the last block; None before the first.
      certificate: Its certificate.
      tree: The state after it.
    """

    header: Header | None
    certificate: Certificate | None
    tree: StateTree


@dataclass(frozen=True)
class TransactionLocation:
    """Location of a transaction."""

    height: int
    place: int


@dataclass(frozen=True)
class StoredUpload:
    """An admitted update with its sealed vector.

    Attributes:
      transaction: Id of the update.
      update: The signed update.
      blob: The sealed vector.
      arrived_ms: Unix time, for people.
    """

    transaction: Digest
    update: Envelope
    blob: bytes
    arrived_ms: int


@dataclass(frozen=True)
class KeptVectorSize:
    """Room that kept vectors take.

    Attributes:
      count: How many there are.
      size_bytes: Of all together, sealed.
    """

    count: int
    size_bytes: int


@dataclass(frozen=True)
class StoredVersion:
    """Facts about a final version, for people.

    Attributes:
      task: Which task.
      version: Which version.
      time_ms: Unix time when we learned that it is final.
      updates: How many made it.
      staleness_milli: Their mean staleness in thousandths.
      charge_max: Largest total privacy charge of any board.
      accuracy: On held-out data, in [0, 1]; None if unknown or without meaning.
      loss: On held-out data; None if unknown.
      failures: How often it could not be tried.
    """

    task: int
    version: int
    time_ms: int
    updates: int
    staleness_milli: int
    charge_max: int
    accuracy: float | None = None
    loss: float | None = None
    failures: int = 0


class ChainStore(Protocol):
    """A coordinator's memory; `put` and `drop` only inside a `transaction`."""

    genesis: Genesis

    def transaction(self) -> AbstractContextManager[None]:
        """Context in which all writes become durable at its end, or none does.

        Raises:
          StorageError: If the disk refuses; nothing was stored.
        """

    def put_block(
        self,
        block: Block,
        certificate: Certificate,
        changes: Mapping[bytes, bytes | None],
        identities: Sequence[Digest],
    ) -> None:
        """Adds the next block, the ids of its transactions and the state's changes."""

    def put_upload(self, upload: StoredUpload) -> None:
        """Adds an admitted update; again does nothing."""

    def drop_uploads(self, height: int, bytes_kept: int = 0) -> int:
        """Forgets uploads that stand in blocks up to a height; returns how many.

        Args:
          height: Of the last of these blocks.
          bytes_kept: What the vectors of all uploads may take together before any is
            forgotten; then the oldest go, until an eighth of it is free.
        """

    def vectors(self) -> KeptVectorSize:
        """Room that the vectors of all uploads take."""

    def drop_upload(self, transaction: bytes) -> None:
        """Forgets one upload."""

    def put_blob(self, content: bytes, digest: Digest | None = None) -> Digest:
        """Adds a whole under its hash, which a caller that knows it may give."""

    def put_part(self, digest: Digest, number: int, part: bytes) -> None:
        """Adds a part of a long whole, which is there only after `join_parts`.

        Of a whole that is there already it changes nothing.
        """

    def join_parts(self, digest: Digest) -> None:
        """Makes a whole of the parts that were put, in the order of their numbers."""

    def drop_parts(self) -> None:
        """Forgets all parts that no `join_parts` made a whole of."""

    def drop_blob(self, digest: bytes) -> None:
        """Forgets a whole."""

    def put_model(self, task: int, version: int, model: ModelDigests) -> None:
        """Notes what a version that we computed consists of."""

    def put_version(self, version: StoredVersion) -> None:
        """Notes a final version."""

    def put_metrics(
        self, task: int, version: int, accuracy: float | None, loss: float
    ) -> None:
        """Adds what an evaluation gave to a noted version."""

    def put_proof(self, task: int, proof: bytes) -> None:
        """Keeps a task's best version's proof, packed, in place of the one before."""

    def put_failure(self, task: int, version: int) -> None:
        """Counts that a noted version could not be tried."""

    def put_evidence(self, known: bytes, other: Envelope) -> None:
        """Keeps an update that contradicts a known transaction; again does nothing."""

    def drop_evidence(self, known: bytes, other: Envelope) -> None:
        """Forgets kept evidence; what is not there does nothing."""

    def tip(self) -> StoredHead:
        """End of the chain; read once, at the start.

        Raises:
          StorageError: If the state does not lead to the last header's root.
        """

    def block(self, height: int) -> StoredBlock | None:
        """A block by height; None also if its transactions were pruned."""

    def header(self, height: int) -> StoredHeader | None:
        """A header by height; None also if the chain was begun above it."""

    def first_body(self) -> int:
        """Height of the first block whose transactions are kept, or are to come."""

    def prune(self, height: int) -> None:
        """Forgets the transactions of blocks up to this height, never of the last."""

    def snapshots(self) -> tuple[int, ...]:
        """Heights of the snapshots that are kept, rising."""

    def manifest(self, height: int) -> SnapshotManifest | None:
        """Manifest of the snapshot of a height."""

    def buckets(self, height: int, first: int, bytes_max: int) -> tuple[bytes, ...]:
        """Packed buckets of a snapshot.

        Args:
          height: Of the snapshot.
          first: The first bucket.
          bytes_max: Of all together, unless the first one alone is longer.
        """

    def adopt(
        self,
        manifest: SnapshotManifest,
        ends: Sequence[ValidatorSetTransition],
        state: Mapping[bytes, bytes],
    ) -> None:
        """Begins anew from a checked snapshot; blocks before it are forgotten.

        Args:
          manifest: Of the snapshot.
          ends: Changes of the validator set since the last block, rising.
          state: All entries.
        """

    def epochs(self) -> tuple[ValidatorSetTransition, ...]:
        """All changes of the validator set, rising."""

    def validators(self, digest: bytes) -> ValidatorSet | None:
        """A set that certified or certifies a height, by its hash."""

    def decisions(self, first: int, most: int, bytes_max: int) -> tuple[bytes, ...]:
        """Blocks from a height on as packed `DecidedBlock`s.

        Args:
          first: Height of the first one.
          most: How many at most.
          bytes_max: Of all together, unless the first one alone is longer.
        """

    def locate(self, transaction: bytes) -> TransactionLocation | None:
        """Location of a transaction; None without one."""

    def upload(self, transaction: bytes) -> StoredUpload | None:
        """An upload that is still kept."""

    def uploads_waiting(self) -> Iterator[StoredUpload]:
        """Uploads that stand in no block, oldest first."""

    def blob(self, digest: bytes) -> bytes | None:
        """A whole by its hash."""

    def has_blob(self, digest: bytes) -> bool:
        """True if there is a blob of that hash; it is not read."""

    def model(self, task: int, version: int) -> ModelDigests | None:
        """Digests of a version that this coordinator computed."""

    def versions(self, task: int) -> tuple[StoredVersion, ...]:
        """The noted versions of a task, rising."""

    def proof(self, task: int) -> bytes | None:
        """Packed proof of the version of a task that was best; None without one."""

    def evidence(self) -> tuple[tuple[Digest, Envelope], ...]:
        """All kept evidence: the known transaction and what contradicts it."""

    def close(self) -> None:
        """Ends; a second call does nothing."""


def most_kept(bytes_kept: int) -> int:
    """Bytes of vectors that stay once some have to go: so that it is not each time."""
    return bytes_kept - bytes_kept // 8


def within(packed: Iterable[bytes], bytes_max: int) -> tuple[bytes, ...]:
    """The first one, and those after it as long as all together are not longer."""
    taken: list[bytes] = []
    size = 0
    for one in packed:
        size += len(one)
        if taken and size > bytes_max:
            break
        taken.append(one)
    return tuple(taken)
