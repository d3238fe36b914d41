"""What a coordinator keeps of the chain, and the store that keeps it in memory.

`coordinator.rim.store` is the one on disk; one suite in tests/contract runs both.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from coordinator.ledger.state import genesis_tree
from coordinator.ledger.wire import DECISION, Decision
from protocol.chain import Block, Certificate, Genesis, Header
from protocol.envelope import Envelope
from protocol.ids import Digest, H
from protocol.statetree import StateTree
from protocol.task import ModelDigests


@dataclass(frozen=True)
class StoredBlock:
    """A block and what proves it final."""

    block: Block
    certificate: Certificate


@dataclass(frozen=True)
class StoredTip:
    """Where a stored chain ends.

    Attributes:
      header: Of the last block; None before the first.
      certificate: Its certificate.
      tree: The state after it.
    """

    header: Header | None
    certificate: Certificate | None
    tree: StateTree


@dataclass(frozen=True)
class Location:
    """Where a transaction stands."""

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
class StoredVersion:
    """What is known of a final version, for people.

    Attributes:
      task: Which task.
      version: Which version.
      time_ms: Unix time when we learned that it is final.
      updates: How many made it.
      staleness_milli: Their mean staleness in thousandths.
      charge_max: Largest total privacy charge of any board.
      accuracy: On held-out data, in [0, 1]; None if unknown or without meaning.
      loss: On held-out data; None if unknown.
    """

    task: int
    version: int
    time_ms: int
    updates: int
    staleness_milli: int
    charge_max: int
    accuracy: float | None = None
    loss: float | None = None


class Store(Protocol):
    """A coordinator's memory; `put` and `drop` only inside a `transaction`."""

    genesis: Genesis

    def transaction(self) -> AbstractContextManager[None]:
        """What is put inside becomes durable at its end, all or nothing.

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

    def drop_uploads(self, height: int) -> int:
        """Forgets uploads that stand in blocks up to this height; returns how many."""

    def drop_upload(self, transaction: bytes) -> None:
        """Forgets one upload."""

    def put_blob(self, content: bytes) -> Digest:
        """Adds a whole under its hash."""

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

    def put_evidence(self, known: bytes, other: Envelope) -> None:
        """Keeps an update that contradicts a known transaction; again does nothing."""

    def put_note(self, name: str, value: int) -> None:
        """Keeps a number under a name, such as a counter's high-water mark."""

    def tip(self) -> StoredTip:
        """Where the chain ends; read once, at the start.

        Raises:
          StorageError: If the state does not lead to the last header's root.
        """

    def block(self, height: int) -> StoredBlock | None:
        """A block by height."""

    def decisions(self, first: int, most: int, bytes_max: int) -> tuple[bytes, ...]:
        """Blocks from a height on as packed `wire.Decision`s.

        Args:
          first: Height of the first one.
          most: How many at most.
          bytes_max: Of all together, unless the first one alone is longer.
        """

    def locate(self, transaction: bytes) -> Location | None:
        """Where a transaction stands, if it does."""

    def upload(self, transaction: bytes) -> StoredUpload | None:
        """An upload that is still kept."""

    def uploads_waiting(self) -> Iterator[StoredUpload]:
        """Uploads that stand in no block, oldest first."""

    def blob(self, digest: bytes) -> bytes | None:
        """A whole by its hash."""

    def model(self, task: int, version: int) -> ModelDigests | None:
        """What a version that we computed consists of."""

    def versions(self, task: int) -> tuple[StoredVersion, ...]:
        """The noted versions of a task, rising."""

    def evidence(self) -> tuple[tuple[Digest, Envelope], ...]:
        """All kept evidence: the known transaction and what contradicts it."""

    def note(self, name: str) -> int | None:
        """A number by name."""

    def close(self) -> None:
        """Ends; a second call does nothing."""


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


class MemoryStore:
    """The twin without a disk, for simulations: nothing outlives the process."""

    def __init__(self, genesis: Genesis) -> None:
        """Starts a chain."""
        self.genesis = genesis
        self._tree = genesis_tree(genesis)
        self._blocks: list[StoredBlock] = []
        self._places: dict[bytes, Location] = {}
        self._uploads: dict[bytes, StoredUpload] = {}
        self._blobs: dict[bytes, bytes] = {}
        self._models: dict[tuple[int, int], ModelDigests] = {}
        self._versions: dict[tuple[int, int], StoredVersion] = {}
        self._evidence: dict[tuple[bytes, bytes], tuple[Digest, Envelope]] = {}
        self._notes: dict[str, int] = {}
        self._open = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Store`. Nothing here can fail half way, so nothing is undone."""
        assert not self._open, "transactions do not nest"
        self._open = True
        try:
            yield
        finally:
            self._open = False

    def put_block(
        self,
        block: Block,
        certificate: Certificate,
        changes: Mapping[bytes, bytes | None],
        identities: Sequence[Digest],
    ) -> None:
        """See `Store`."""
        assert self._open
        assert block.header.height == len(self._blocks) + 1
        self._blocks.append(StoredBlock(block, certificate))
        self._tree = self._tree.update(dict(changes))
        for place, identity in enumerate(identities):
            self._places[identity] = Location(block.header.height, place)

    def put_upload(self, upload: StoredUpload) -> None:
        """See `Store`."""
        assert self._open
        self._uploads.setdefault(upload.transaction, upload)

    def drop_uploads(self, height: int) -> int:
        """See `Store`."""
        assert self._open
        found = [
            identity
            for identity in self._uploads
            if identity in self._places and self._places[identity].height <= height
        ]
        for identity in found:
            del self._uploads[identity]
        return len(found)

    def drop_upload(self, transaction: bytes) -> None:
        """See `Store`."""
        assert self._open
        self._uploads.pop(transaction, None)

    def put_blob(self, content: bytes) -> Digest:
        """See `Store`."""
        assert self._open
        digest = H(content)
        self._blobs[digest] = content
        return digest

    def drop_blob(self, digest: bytes) -> None:
        """See `Store`."""
        assert self._open
        self._blobs.pop(digest, None)

    def put_model(self, task: int, version: int, model: ModelDigests) -> None:
        """See `Store`."""
        assert self._open
        self._models[task, version] = model

    def put_version(self, version: StoredVersion) -> None:
        """See `Store`."""
        assert self._open
        self._versions.setdefault((version.task, version.version), version)

    def put_metrics(
        self, task: int, version: int, accuracy: float | None, loss: float
    ) -> None:
        """See `Store`."""
        assert self._open
        known = self._versions.get((task, version))
        if known is not None:
            after = replace(known, accuracy=accuracy, loss=loss)
            self._versions[task, version] = after

    def put_evidence(self, known: bytes, other: Envelope) -> None:
        """See `Store`."""
        assert self._open
        self._evidence.setdefault((known, other.signature), (Digest(known), other))

    def put_note(self, name: str, value: int) -> None:
        """See `Store`."""
        assert self._open
        self._notes[name] = value

    def tip(self) -> StoredTip:
        """See `Store`."""
        if not self._blocks:
            return StoredTip(None, None, self._tree)
        last = self._blocks[-1]
        return StoredTip(last.block.header, last.certificate, self._tree)

    def block(self, height: int) -> StoredBlock | None:
        """See `Store`."""
        if not 1 <= height <= len(self._blocks):
            return None
        return self._blocks[height - 1]

    def decisions(self, first: int, most: int, bytes_max: int) -> tuple[bytes, ...]:
        """See `Store`."""
        stored = self._blocks[max(0, first - 1) : max(0, first - 1 + most)]
        packed = (DECISION.pack(Decision(one.block, one.certificate)) for one in stored)
        return within(packed, bytes_max)

    def locate(self, transaction: bytes) -> Location | None:
        """See `Store`."""
        return self._places.get(transaction)

    def upload(self, transaction: bytes) -> StoredUpload | None:
        """See `Store`."""
        return self._uploads.get(transaction)

    def uploads_waiting(self) -> Iterator[StoredUpload]:
        """See `Store`."""
        return (
            upload
            for identity, upload in list(self._uploads.items())
            if identity not in self._places
        )

    def blob(self, digest: bytes) -> bytes | None:
        """See `Store`."""
        return self._blobs.get(digest)

    def model(self, task: int, version: int) -> ModelDigests | None:
        """See `Store`."""
        return self._models.get((task, version))

    def versions(self, task: int) -> tuple[StoredVersion, ...]:
        """See `Store`."""
        found = [known for known in self._versions.values() if known.task == task]
        return tuple(sorted(found, key=lambda known: known.version))

    def evidence(self) -> tuple[tuple[Digest, Envelope], ...]:
        """See `Store`."""
        return tuple(self._evidence.values())

    def note(self, name: str) -> int | None:
        """See `Store`."""
        return self._notes.get(name)

    def close(self) -> None:
        """See `Store`."""
