"""The twin of the store on disk, for simulations: nothing outlives the process."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile

from starling.coordinator.chain.execution.state_machine import genesis_tree
from starling.coordinator.chain.gossip_messages import DECISION, DecidedBlock
from starling.coordinator.chain.state import validator_records
from starling.coordinator.chain.storage.chain_store import (
    KeptVectorSize,
    StoredBlock,
    StoredHead,
    StoredHeader,
    StoredUpload,
    StoredVersion,
    TransactionLocation,
    most_kept,
    within,
)
from starling.coordinator.chain.storage.snapshot import (
    SNAPSHOTS_KEPT,
    SnapshotManifest,
    bucketed,
    is_due,
    pack_bucket,
)
from starling.protocol.chain.blocks import Block, Certificate
from starling.protocol.chain.genesis import Genesis, ValidatorSet
from starling.protocol.chain.light_client import ValidatorSetTransition
from starling.protocol.crypto.state_tree import StateTree, bucket_root
from starling.protocol.ids import Digest, H
from starling.protocol.learning.task import ModelDigests
from starling.protocol.wire.envelope import Envelope


class MemoryStore:
    """The twin without a disk, for simulations: nothing outlives the process."""

    def __init__(self, genesis: Genesis) -> None:
        """Starts a chain."""
        self.genesis = genesis
        self._hashed = genesis_tree(genesis)
        self._unhashed: dict[bytes, bytes | None] = {}
        self._blocks: dict[int, StoredBlock] = {}
        self._headers: dict[int, StoredHeader] = {}
        self._first_body = 1
        self._snapshots: dict[int, list[dict[bytes, bytes]]] = {}
        self._ends: list[ValidatorSetTransition] = []
        self._places: dict[bytes, TransactionLocation] = {}
        self._uploads: dict[bytes, StoredUpload] = {}
        self._blobs: dict[bytes, bytes] = {}
        self._parts: dict[tuple[bytes, int], bytes] = {}
        self._models: dict[tuple[int, int], ModelDigests] = {}
        self._versions: dict[tuple[int, int], StoredVersion] = {}
        self._evidence: dict[tuple[bytes, bytes], tuple[Digest, Envelope]] = {}
        self._open = False

    @property
    def _tree(self) -> StateTree:
        """The state, hashed when somebody looks: not after each block."""
        if self._unhashed:
            self._hashed = self._hashed.update(self._unhashed)
            self._unhashed = {}
        return self._hashed

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `ChainStore`. Nothing here can fail half way, so nothing is undone."""
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
        """See `ChainStore`."""
        assert self._open
        header = block.header
        assert header.height == max(self._headers, default=0) + 1
        self._blocks[header.height] = StoredBlock(block, certificate)
        self._headers[header.height] = StoredHeader(header, certificate)
        self._unhashed.update(changes)
        if header.next_validators != header.validators:
            following = validator_records.validators(
                self._tree, self.genesis, header.height + 1
            )
            self._ends.append(ValidatorSetTransition(header, certificate, following))
        taken = max(self._snapshots, default=None)
        last = None if taken is None else self._headers[taken].header
        if is_due(header, last):
            self._take(header.height)
        for place, identity in enumerate(identities):
            self._places[identity] = TransactionLocation(block.header.height, place)

    def put_upload(self, upload: StoredUpload) -> None:
        """See `ChainStore`."""
        assert self._open
        self._uploads.setdefault(upload.transaction, upload)

    def drop_uploads(self, height: int, bytes_kept: int = 0) -> int:
        """See `ChainStore`."""
        assert self._open
        least = most_kept(bytes_kept)
        if bytes_kept and self.vectors().size_bytes <= bytes_kept:
            return 0
        found = [
            identity
            for identity in self._uploads
            if identity in self._places and self._places[identity].height <= height
        ]
        spared, newer = set(), 0
        for identity, upload in reversed(self._uploads.items()):
            newer += len(upload.blob)
            if newer <= least:
                spared.add(identity)
        found = [identity for identity in found if identity not in spared]
        for identity in found:
            del self._uploads[identity]
        return len(found)

    def vectors(self) -> KeptVectorSize:
        """See `ChainStore`."""
        sizes = [len(upload.blob) for upload in self._uploads.values()]
        return KeptVectorSize(len(sizes), sum(sizes))

    def drop_upload(self, transaction: bytes) -> None:
        """See `ChainStore`."""
        assert self._open
        self._uploads.pop(transaction, None)

    def put_blob(self, content: bytes, digest: Digest | None = None) -> Digest:
        """See `ChainStore`."""
        assert self._open
        digest = H(content) if digest is None else digest
        self._blobs[digest] = content
        return digest

    def put_part(self, digest: Digest, number: int, part: bytes) -> None:
        """See `ChainStore`."""
        assert self._open
        if digest not in self._blobs:
            self._parts[digest, number] = part

    def join_parts(self, digest: Digest) -> None:
        """See `ChainStore`."""
        assert self._open
        found = sorted(place for place in self._parts if place[0] == digest)
        if digest not in self._blobs:
            self._blobs[digest] = b"".join(self._parts.pop(place) for place in found)

    def drop_parts(self) -> None:
        """See `ChainStore`."""
        assert self._open
        self._parts.clear()

    def drop_blob(self, digest: bytes) -> None:
        """See `ChainStore`."""
        assert self._open
        self._blobs.pop(digest, None)

    def put_model(self, task: int, version: int, model: ModelDigests) -> None:
        """See `ChainStore`."""
        assert self._open
        self._models[task, version] = model

    def put_version(self, version: StoredVersion) -> None:
        """See `ChainStore`."""
        assert self._open
        self._versions.setdefault((version.task, version.version), version)

    def put_metrics(
        self, task: int, version: int, accuracy: float | None, loss: float
    ) -> None:
        """See `ChainStore`."""
        assert self._open
        known = self._versions.get((task, version))
        if known is not None:
            after = replace(known, accuracy=accuracy, loss=loss)
            self._versions[task, version] = after

    def put_failure(self, task: int, version: int) -> None:
        """See `ChainStore`."""
        assert self._open
        known = self._versions.get((task, version))
        if known is not None:
            after = replace(known, failures=known.failures + 1)
            self._versions[task, version] = after

    def put_evidence(self, known: bytes, other: Envelope) -> None:
        """See `ChainStore`."""
        assert self._open
        self._evidence.setdefault((known, other.signature), (Digest(known), other))

    def drop_evidence(self, known: bytes, other: Envelope) -> None:
        """See `ChainStore`."""
        assert self._open
        self._evidence.pop((known, other.signature), None)

    def tip(self) -> StoredHead:
        """See `ChainStore`."""
        if not self._headers:
            return StoredHead(None, None, self._tree)
        last = self._headers[max(self._headers)]
        return StoredHead(last.header, last.certificate, self._tree)

    def block(self, height: int) -> StoredBlock | None:
        """See `ChainStore`."""
        return self._blocks.get(height)

    def header(self, height: int) -> StoredHeader | None:
        """See `ChainStore`."""
        return self._headers.get(height)

    def first_body(self) -> int:
        """See `ChainStore`."""
        return self._first_body

    def prune(self, height: int) -> None:
        """See `ChainStore`."""
        assert self._open
        last = min(height, max(self._headers, default=0) - 1)
        for number in range(self._first_body, last + 1):
            del self._blocks[number]
        self._first_body = max(self._first_body, last + 1)
        places = self._places.items()
        self._places = {key: at for key, at in places if at.height > last}

    def _take(self, height: int) -> None:
        self._snapshots[height] = bucketed(dict(self._tree.items()))
        for old in sorted(self._snapshots)[:-SNAPSHOTS_KEPT]:
            del self._snapshots[old]

    def snapshots(self) -> tuple[int, ...]:
        """See `ChainStore`."""
        return tuple(sorted(self._snapshots))

    def manifest(self, height: int) -> SnapshotManifest | None:
        """See `ChainStore`."""
        if height not in self._snapshots:
            return None
        known = self._headers[height]
        roots = tuple(bucket_root(bucket) for bucket in self._snapshots[height])
        return SnapshotManifest(known.header, known.certificate, roots)

    def buckets(self, height: int, first: int, bytes_max: int) -> tuple[bytes, ...]:
        """See `ChainStore`."""
        found = self._snapshots.get(height, [])[first:]
        return within(map(pack_bucket, found), bytes_max)

    def adopt(
        self,
        manifest: SnapshotManifest,
        ends: Sequence[ValidatorSetTransition],
        state: Mapping[bytes, bytes],
    ) -> None:
        """See `ChainStore`."""
        assert self._open
        height = manifest.header.height
        self._hashed, self._unhashed = StateTree().update(dict(state)), {}
        self._blocks, self._places, self._snapshots = {}, {}, {}
        known = StoredHeader(manifest.header, manifest.certificate)
        self._headers = {height: known}
        self._first_body = height + 1
        self._ends.extend(ends)
        self._take(height)

    def epochs(self) -> tuple[ValidatorSetTransition, ...]:
        """See `ChainStore`."""
        return tuple(self._ends)

    def validators(self, digest: bytes) -> ValidatorSet | None:
        """See `ChainStore`."""
        sets = [self.genesis.validators, *(end.following for end in self._ends)]
        return next((one for one in sets if one.digest() == digest), None)

    def decisions(self, first: int, most: int, bytes_max: int) -> tuple[bytes, ...]:
        """See `ChainStore`."""
        found = (self._blocks.get(height) for height in range(first, first + most))
        stored = takewhile(lambda one: one is not None, found)
        packed = (
            DECISION.pack(DecidedBlock(one.block, one.certificate))
            for one in stored
            if one
        )
        return within(packed, bytes_max)

    def locate(self, transaction: bytes) -> TransactionLocation | None:
        """See `ChainStore`."""
        return self._places.get(transaction)

    def upload(self, transaction: bytes) -> StoredUpload | None:
        """See `ChainStore`."""
        return self._uploads.get(transaction)

    def uploads(self) -> tuple[StoredUpload, ...]:
        """All uploads that are kept, oldest first."""
        return tuple(self._uploads.values())

    def uploads_waiting(self) -> Iterator[StoredUpload]:
        """See `ChainStore`."""
        return (
            upload
            for identity, upload in list(self._uploads.items())
            if identity not in self._places
        )

    def blob(self, digest: bytes) -> bytes | None:
        """See `ChainStore`."""
        return self._blobs.get(digest)

    def blobs(self) -> tuple[bytes, ...]:
        """All wholes."""
        return tuple(self._blobs.values())

    def has_blob(self, digest: bytes) -> bool:
        """See `ChainStore`."""
        return digest in self._blobs

    def model(self, task: int, version: int) -> ModelDigests | None:
        """See `ChainStore`."""
        return self._models.get((task, version))

    def versions(self, task: int) -> tuple[StoredVersion, ...]:
        """See `ChainStore`."""
        found = [known for known in self._versions.values() if known.task == task]
        return tuple(sorted(found, key=lambda known: known.version))

    def evidence(self) -> tuple[tuple[Digest, Envelope], ...]:
        """See `ChainStore`."""
        return tuple(self._evidence.values())

    def close(self) -> None:
        """See `ChainStore`."""
