"""Workers for what takes longer than a turn of the loop.

Each has one thread; results come back as events. Everything that a job needs is read
from the store before it is handed over, since the store belongs to the loop's thread.
"""

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from starling.coordinator.aggregation.strategy import ModelState, unpack_model
from starling.coordinator.aggregation.version_computation import (
    StoredVector,
    UnopenableVectors,
    recompute,
)
from starling.coordinator.availability.bundle_examination import examined
from starling.coordinator.chain.state.task_records import JobMember
from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.coordinator.runtime.environment import Compute
from starling.coordinator.runtime.evaluation.evaluation_messages import EvaluationError
from starling.coordinator.runtime.evaluation.evaluator import Evaluator
from starling.coordinator.runtime.storage.blob_cache import BlobCache
from starling.coordinator.step.effects import ComputeVersion, EvaluateVersion
from starling.coordinator.step.events import (
    ComputationFailed,
    EvaluationFailed,
    Event,
    VersionComputed,
    VersionEvaluated,
)
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.errors import AggregationError, ProtocolError
from starling.protocol.ids import Digest
from starling.protocol.learning.task import ModelDigests, TaskSpec

log = logging.getLogger("starling.coordinator")

FAILURES_MAX = 3
"""Trials in a row of versions of one bundle, after which it is left until a restart."""


class JobWorkers:
    """The three threads."""

    def __init__(
        self,
        store: ChainStore,
        wholes: BlobCache,
        key: OpeningKey,
        evaluator: Evaluator | None,
        on_event: Callable[[Event], None],
        on_failure: Callable[[BaseException], None],
        compute: Compute = recompute,
    ) -> None:
        """Starts no thread before there is work.

        Args:
          store: Read in the caller's thread only.
          wholes: Of that store; likewise.
          key: Opens updates.
          evaluator: None if there is no held-out data.
          on_event: Called from a worker's thread with each result.
          on_failure: Called there with what must end the process.
          compute: Makes a version from its job.
        """
        self._store = store
        self._wholes = wholes
        self._key = key
        self._evaluator = evaluator
        self._on_event = on_event
        self._on_failure = on_failure
        self._compute = compute
        self._aggregation = ThreadPoolExecutor(1, "aggregation")
        self._evaluation = ThreadPoolExecutor(1, "evaluation")
        self._examination = ThreadPoolExecutor(1, "examination")
        # Of the evaluation's thread; the loop's only reads it.
        self._failures: Counter[Digest] = Counter()

    def aggregate(self, asked: ComputeVersion, spec: TaskSpec) -> None:
        """Computes a version.

        Args:
          asked: The job.
          spec: The task.
        """
        members = [member.transaction for member in asked.job.members]
        held = {each: self._vector(each, asked) for each in members}
        lacks = self._lacks(asked, spec, [each for each in members if not held[each]])
        if lacks is not None:
            self._on_event(lacks)
            return
        state = self._state_before(asked, spec)

        def fetch(member: JobMember) -> StoredVector:
            vector = held[member.transaction]
            assert vector is not None
            return vector

        def work() -> Event:
            try:
                made = self._compute(self._key, spec, asked.job, state, fetch)
            except (AggregationError, ProtocolError) as error:
                closed = error.updates if isinstance(error, UnopenableVectors) else ()
                return ComputationFailed(
                    asked.task, asked.version, str(error), closed=closed
                )
            return VersionComputed(asked.task, asked.version, made)

        self._submit(self._aggregation, work)

    def evaluate(self, asked: EvaluateVersion) -> None:
        """Tries a version; without held-out data it does nothing."""
        evaluator = self._evaluator
        if evaluator is None:
            return
        bundle = self._wholes.get(asked.bundle)
        inference = self._store.blob(asked.inference)
        if bundle is None or inference is None:
            # A task that was announced without its blobs harms itself alone.
            log.warning("task %d: its bundle or model is not here", asked.task)
            return
        if self._failures[asked.bundle] >= FAILURES_MAX:
            log.debug("task %d: its bundle failed too often", asked.task)
            return
        packed, theta = bundle, inference

        def work() -> Event:
            # A fleet must not stop because its measuring does.
            try:
                accuracy, loss = evaluator.evaluate(asked.bundle, packed, theta)
            except EvaluationError as error:
                self._failures[asked.bundle] += 1
                return EvaluationFailed(asked.task, asked.version, str(error))
            self._failures[asked.bundle] = 0
            return VersionEvaluated(asked.task, asked.version, accuracy, loss)

        self._submit(self._evaluation, work)

    def examine(self, bundle: Digest) -> None:
        """Looks whether boards would run a bundle."""
        content = self._wholes.get(bundle)
        self._submit(self._examination, lambda: examined(bundle, content))

    def stop(self) -> None:
        """Waits for what runs and forgets what waits; it is handed out again."""
        if self._evaluator is not None:
            self._evaluator.abandon()
        self._aggregation.shutdown(cancel_futures=True)
        self._evaluation.shutdown(cancel_futures=True)
        self._examination.shutdown(cancel_futures=True)
        if self._evaluator is not None:
            self._evaluator.stop()

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[[], Event]) -> None:
        def carry() -> None:
            self._on_event(work())

        pool.submit(carry).add_done_callback(self._ended)

    def _ended(self, future: "Future[None]") -> None:
        # A bug in a worker must end the process like a bug in the loop.
        if not future.cancelled() and (error := future.exception()) is not None:
            self._on_failure(error)

    def _lacks(
        self, asked: ComputeVersion, spec: TaskSpec, uploads: list[Digest]
    ) -> ComputationFailed | None:
        """First missing part of a job, beside these uploads; None if complete."""
        model = self._model_before(asked, spec)
        parts = () if model is None else (model.theta, model.momentum, model.average)
        wholes = [each for each in parts if not self._store.has_blob(each)]
        if model is not None and not uploads and not wholes:
            return None
        detail = f"the store lacks {len(uploads)} updates, {len(wholes)} wholes"
        if model is None:
            detail = f"the store lacks version {asked.version - 1}"
        return ComputationFailed(
            asked.task, asked.version, detail, tuple(uploads), tuple(wholes)
        )

    def _model_before(
        self, asked: ComputeVersion, spec: TaskSpec
    ) -> ModelDigests | None:
        before = asked.version - 1
        return self._store.model(asked.task, before) if before else spec.initial

    def _state_before(self, asked: ComputeVersion, spec: TaskSpec) -> ModelState:
        model = self._model_before(asked, spec)
        assert model is not None
        parts = (model.theta, model.momentum, model.average)
        return unpack_model(*[self._whole(part) for part in parts])

    def _whole(self, digest: Digest) -> bytes:
        content = self._store.blob(digest)
        assert content is not None
        return content

    def _vector(self, update: Digest, asked: ComputeVersion) -> StoredVector | None:
        stored = self._store.upload(update)
        if stored is None:
            return None
        return StoredVector(stored.update, stored.blob, asked.keys.get(update))
