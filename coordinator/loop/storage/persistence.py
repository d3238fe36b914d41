"""Makes effects durable, in order, with as few synced writes as the order allows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starling.coordinator.chain.node.node import JournalVote, StoreBlock
from starling.coordinator.chain.storage.chain_store import (
    ChainStore,
    StoredUpload,
    StoredVersion,
)
from starling.coordinator.chain.verification.receipt import RECEIPT
from starling.coordinator.loop.ports import VoteStore
from starling.coordinator.models.best_version import best_version
from starling.coordinator.step.effects import (
    AdoptSnapshot,
    DropEvidence,
    DropUpload,
    DropUploads,
    Effect,
    KeepEvidence,
    PruneBlocks,
    StorageEffect,
    StoreDigests,
    StoreFailure,
    StoreMetrics,
    StoreModel,
    StorePeerBlob,
    StoreUpload,
    StoreVersion,
)
from starling.protocol.ids import Digest
from starling.protocol.learning.task import ModelDigests

ANCHOR_EVERY = 64
ANCHORS_KEPT = 16
"""Of the versions whose number is a multiple of that: a trace begins at one of them."""


@dataclass
class _KnownVersions:
    """Of one task: its newest version, and the best that was evaluated and is kept."""

    newest: int
    best: StoredVersion | None


class Persistence:
    """The disk behind the coordinator's effects."""

    def __init__(
        self,
        store: ChainStore,
        votes: VoteStore,
        height: int,
        versions_kept: int,
        by_loss: Callable[[int], bool] = lambda _task: False,
    ) -> None:
        """Takes over an open store and journal.

        Args:
          store: The chain.
          votes: Our own votes.
          height: Of the last stored block.
          versions_kept: Newest versions of the model whose bytes are kept, beside the
            best that was evaluated.
          by_loss: Whether a task's versions are ranked by their losses alone.
        """
        self._store = store
        self._votes = votes
        self._by_loss = by_loss
        self._height = height
        self._versions_kept = versions_kept
        self._known: dict[int, _KnownVersions] = {}

    def commit(self, effects: Sequence[Effect], now_ms: int) -> None:
        """On return everything that `effects` want durable is on the disk.

        Raises:
          StorageError: If the disk refuses; then nothing may be published.
        """
        # In order: a vote never outlives the uploads and models that it stands for, nor
        # a block the votes that decided it. Uploads are dropped last, since it may be
        # this very block that makes them stale.
        stored: list[StorageEffect] = []
        votes: list[JournalVote] = []
        dropped: dict[Digest, DropUpload] = {}
        for effect in effects:
            if isinstance(effect, JournalVote):
                self._store_all(stored, now_ms)
                votes.append(effect)
            elif isinstance(effect, DropUpload):
                dropped[effect.transaction] = effect
            elif isinstance(effect, StorageEffect):
                if isinstance(effect, StoreUpload):
                    dropped.pop(effect.transaction, None)
                self._vote_all(votes)
                stored.append(effect)
        self._vote_all(votes)
        self._store_all([*stored, *dropped.values()], now_ms)

    def _vote_all(self, votes: list[JournalVote]) -> None:
        if votes:
            self._votes.append(votes, self._height)
            votes.clear()

    def _store_all(self, stored: list[StorageEffect], now_ms: int) -> None:
        if stored:
            with self._store.transaction():
                for effect in stored:
                    self._put(effect, now_ms)
            stored.clear()

    def _put(self, effect: StorageEffect, now_ms: int) -> None:
        store = self._store
        match effect:
            case StoreUpload(transaction, update, blob):
                store.put_upload(StoredUpload(transaction, update, blob, now_ms))
            case StoreBlock():
                identities = [result.identity for result in effect.results]
                store.put_block(
                    effect.block, effect.certificate, effect.changes, identities
                )
                self._height = effect.block.header.height
            case StoreModel() | StorePeerBlob() | StoreDigests():
                self._put_model(effect)
            case StoreVersion():
                self._put_version(effect, now_ms)
            case StoreMetrics() | StoreFailure():
                self._put_outcome(effect)
            case KeepEvidence(known, other):
                store.put_evidence(known, other)
            case DropEvidence(known, other):
                store.drop_evidence(known, other)
            case AdoptSnapshot(manifest, ends, state):
                store.adopt(manifest, ends, state)
                self._height = manifest.header.height
            case DropUploads() | DropUpload() | PruneBlocks():
                self._drop(effect)

    def _put_outcome(self, effect: StoreMetrics | StoreFailure) -> None:
        match effect:
            case StoreMetrics(task, version, accuracy, loss, proof):
                self._store.put_metrics(task, version, accuracy, loss)
                tried = StoredVersion(task, version, 0, 0, 0, 0, accuracy, loss)
                self._note_metrics(tried)
                if proof is not None and self._known_of(task).best == tried:
                    self._store.put_proof(task, RECEIPT.pack(proof))
            case StoreFailure(task, version):
                self._store.put_failure(task, version)

    def _put_model(self, effect: StoreModel | StorePeerBlob | StoreDigests) -> None:
        store = self._store
        match effect:
            case StoreModel(task, version, model):
                for part in model.parts():
                    store.put_blob(part)
                store.put_model(task, version, model.digests())
            case StorePeerBlob(digest, content):
                store.put_blob(content, digest)
            case StoreDigests(task, version, digests):
                store.put_model(task, version, digests)

    def _drop(self, effect: DropUploads | DropUpload | PruneBlocks) -> None:
        match effect:
            case PruneBlocks(height):
                # Without their places in the chain they would seem to wait for one.
                self._store.drop_uploads(height)
                self._store.prune(height)
            case DropUploads(height, bytes_kept):
                self._store.drop_uploads(height, bytes_kept)
            case DropUpload(transaction):
                if self._store.locate(transaction) is None:
                    self._store.drop_upload(transaction)

    def _put_version(self, effect: StoreVersion, now_ms: int) -> None:
        self._store.put_version(
            StoredVersion(
                effect.task,
                effect.version,
                now_ms,
                effect.updates,
                effect.staleness_milli,
                effect.charge_max,
            )
        )
        known = self._known_of(effect.task)
        known.newest = max(known.newest, effect.version)
        oldest = effect.version - self._versions_kept
        if known.best is None or oldest != known.best.version:
            self._drop_model(effect.task, oldest)
        self._drop_model(effect.task, effect.version - ANCHORS_KEPT * ANCHOR_EVERY)

    def _known_of(self, task: int) -> "_KnownVersions":
        """Newest and best version of a task; the store is asked once."""
        if task not in self._known:
            rows = self._store.versions(task)
            newest = rows[-1].version if rows else 0
            whole = [row for row in rows if row.loss is not None and self._is_kept(row)]
            self._known[task] = _KnownVersions(newest, self._best(task, whole))
        return self._known[task]

    def _best(self, task: int, rows: Sequence[StoredVersion]) -> StoredVersion | None:
        return best_version(rows, by_loss=self._by_loss(task))

    def _is_kept(self, row: StoredVersion) -> bool:
        """True if a version's bytes are here; version 0 belongs to its task."""
        model = self._store.model(row.task, row.version)
        return row.version == 0 or (
            model is not None and self._store.has_blob(model.inference)
        )

    def _note_metrics(self, tried: StoredVersion) -> None:
        """Keeps the best version that was evaluated; the one that was best may go.

        What went while its evaluation waited cannot take the place of what is kept.
        """
        known = self._known_of(tried.task)
        if not self._is_kept(tried):
            return
        former = known.best
        known.best = self._best(tried.task, [*([former] if former else []), tried])
        late = known.newest - self._versions_kept
        if former is not None and former != known.best and former.version <= late:
            self._drop_model(tried.task, former.version)

    def _drop_model(self, task: int, version: int) -> None:
        dropped = self._store.model(task, version)
        known = self._known_of(task)
        anchors = _anchors(known.newest)
        # Version 0 comes from the task itself; other tasks may start from its bytes.
        if dropped is None or version < 1 or version in anchors:
            return
        first = max(version, known.newest - self._versions_kept) + 1
        spared = {*range(first, known.newest + 1), *anchors}
        if known.best is not None:
            spared.add(known.best.version)
        models = [self._store.model(task, number) for number in sorted(spared)]
        kept = {digest for model in models if model for digest in _parts(model)}
        for digest in _parts(dropped):
            if digest not in kept:
                self._store.drop_blob(digest)


def _anchors(newest: int) -> range:
    """Old versions that are kept so that a trace can begin from one."""
    last = newest - newest % ANCHOR_EVERY
    first = max(ANCHOR_EVERY, last - (ANCHORS_KEPT - 1) * ANCHOR_EVERY)
    return range(first, last + 1, ANCHOR_EVERY)


def _parts(model: ModelDigests) -> tuple[Digest, ...]:
    return (
        model.theta,
        model.momentum,
        model.average,
        model.training,
        model.inference,
    )
