"""Inputs of long work, read from the store before it is handed over.

The store belongs to the loop; what is made here reads it no more, so that it may run on
any thread.
"""

from starling.coordinator.aggregation.strategy import WeightedUpdate, unpack_model
from starling.coordinator.aggregation.version_computation import (
    StoredVector,
    UnopenableVectors,
    check_initial,
    opened_member,
)
from starling.coordinator.chain.state.task_records import JobMember
from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.coordinator.loop.ports import LoopPorts, ScoringInputs, Work
from starling.coordinator.loop.storage.blob_cache import BlobCache
from starling.coordinator.step.effects import ComputeVersion, ScoreVersion
from starling.coordinator.step.events import (
    ComputationFailed,
    Event,
    ScoringFailed,
    VersionComputed,
)
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.errors import AggregationError, ProtocolError
from starling.protocol.ids import Digest
from starling.protocol.learning.task import ModelDigests, TaskSpec


class JobInputs:
    """Makes work of orders."""

    def __init__(self, ports: LoopPorts, blobs: BlobCache, key: OpeningKey) -> None:
        """Reads nothing yet.

        Args:
          ports: For the store and the arithmetic.
          blobs: Of that store.
          key: Opens updates.
        """
        self._store: ChainStore = ports.store
        self._compute = ports.compute
        self._examine = ports.examine
        self._blobs = blobs
        self._key = key

    def aggregation(
        self, asked: ComputeVersion, spec: TaskSpec
    ) -> Work | ComputationFailed:
        """The computation of a version; what the store lacks for it, if it does.

        Args:
          asked: The job.
          spec: The task.
        """
        members = [member.transaction for member in asked.job.members]
        held = {each: self._vector(each, asked) for each in members}
        missing = self._missing_parts(
            asked, spec, [each for each in members if not held[each]]
        )
        if missing is not None:
            return missing
        model = self._model_before(asked, spec)
        assert model is not None
        parts = [
            self._blob(part) for part in (model.theta, model.momentum, model.average)
        ]
        compute, key = self._compute, self._key

        def fetch(member: JobMember) -> StoredVector:
            vector = held[member.transaction]
            assert vector is not None
            return vector

        def work() -> Event:
            try:
                state = unpack_model(*parts)
                if model == spec.initial:
                    check_initial(spec, state)
                made = compute(key, spec, asked.job, state, fetch)
            except (AggregationError, ProtocolError) as error:
                closed = error.updates if isinstance(error, UnopenableVectors) else ()
                return ComputationFailed(
                    asked.task, asked.version, str(error), closed=closed
                )
            return VersionComputed(asked.task, asked.version, made)

        return work

    def scoring(
        self, asked: ScoreVersion, spec: TaskSpec
    ) -> ScoringInputs | ScoringFailed:
        """Inputs of scoring a version's updates, if the store has them all.

        Args:
          asked: Which version.
          spec: The task.
        """
        bundle, theta = self._blobs.get(asked.bundle), self._store.blob(asked.theta)
        found = [
            (each, self._vector(each.transaction, asked)) for each in asked.job.members
        ]
        held = [(member, vector) for member, vector in found if vector is not None]
        if bundle is None or theta is None or len(held) < len(found):
            detail = "the store lacks its model, or an update"
            return ScoringFailed(asked.task, asked.version, detail)
        key = self._key

        def opened() -> list[WeightedUpdate]:
            return [opened_member(key, spec, *each) for each in held]

        return ScoringInputs(asked, spec, bundle, theta, opened)

    def examination(self, bundle: Digest) -> Work:
        """The check whether boards would run a bundle."""
        content, examine = self._blobs.get(bundle), self._examine
        return lambda: examine(bundle, content)

    def _missing_parts(
        self, asked: ComputeVersion, spec: TaskSpec, uploads: list[Digest]
    ) -> ComputationFailed | None:
        """Parts of a job that the store lacks, beside these uploads; None if none."""
        model = self._model_before(asked, spec)
        parts = () if model is None else (model.theta, model.momentum, model.average)
        blobs = [each for each in parts if not self._store.has_blob(each)]
        if model is not None and not uploads and not blobs:
            return None
        detail = f"the store lacks {len(uploads)} updates, {len(blobs)} blobs"
        if model is None:
            detail = f"the store lacks version {asked.version - 1}"
        return ComputationFailed(
            asked.task, asked.version, detail, tuple(uploads), tuple(blobs)
        )

    def _model_before(
        self, asked: ComputeVersion, spec: TaskSpec
    ) -> ModelDigests | None:
        before = asked.version - 1
        return self._store.model(asked.task, before) if before else spec.initial

    def _blob(self, digest: Digest) -> bytes:
        content = self._store.blob(digest)
        assert content is not None
        return content

    def _vector(
        self, update: Digest, asked: ComputeVersion | ScoreVersion
    ) -> StoredVector | None:
        stored = self._store.upload(update)
        if stored is None:
            return None
        return StoredVector(stored.update, stored.blob, asked.keys.get(update))
