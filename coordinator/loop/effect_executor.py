"""Carries out what the core wants done, through the ports.

Of a batch first everything that must last is made durable, with as few synced writes as
its order allows; then messages are published, and work is handed over.
"""

from collections.abc import Sequence

from starling.coordinator.chain.node.node import SendGossip, StoreFork
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.loop.job_inputs import JobInputs
from starling.coordinator.loop.messaging.outbound_queue import OutboundQueue
from starling.coordinator.loop.messaging.publisher import Publisher
from starling.coordinator.loop.ports import LoopPorts, ScoringInputs
from starling.coordinator.loop.storage.blob_cache import BlobCache, update_of
from starling.coordinator.loop.storage.blob_writer import PendingBlobWrites
from starling.coordinator.loop.storage.persistence import Persistence
from starling.coordinator.peers import directory
from starling.coordinator.step.effects import (
    AdoptSnapshot,
    ComputeVersion,
    Effect,
    EvaluateVersion,
    ExamineBundle,
    FindMissingBlobs,
    LogLine,
    LookUpUpdate,
    PublishChunks,
    PublishFinality,
    RecordAcceptance,
    RecordOverLimit,
    RecordRefusal,
    RemoveInboxFile,
    ScoreVersion,
    SendAnswer,
    SendContentKey,
    SendFrame,
    SendMessage,
    StoreFailure,
    StoreMetrics,
    StorePeerBlob,
    StoreVersion,
)
from starling.coordinator.step.events import MissingBlobsFound, UpdateLookedUp
from starling.coordinator.step.state import CoordinatorSettings, CoordinatorState


class CoordinatorEffectExecutor:
    """The hands of one coordinator.

    Attributes:
      restarts: Whether the chain was begun anew from a snapshot, and the core must be.
      blobs: What boards and peers asked for last.
      long: Wholes that are stored over several turns.
    """

    def __init__(
        self,
        settings: CoordinatorSettings,
        ports: LoopPorts,
        outgoing: OutboundQueue,
        tally: CoordinatorCounters,
        persistence: Persistence,
    ) -> None:
        """Forgets what an earlier run left unfinished.

        Args:
          settings: For topics and keys.
          ports: The world.
          outgoing: The queue in front of the bus.
          tally: The counters.
          persistence: Makes effects durable.

        Raises:
          StorageError: If the disk refuses.
        """
        self.restarts = False
        self.blobs = BlobCache(ports.store)
        self.long = PendingBlobWrites(ports.store)
        self._ports = ports
        self._tally = tally
        self._persistence = persistence
        self._outgoing = outgoing
        self._jobs = JobInputs(ports, self.blobs, settings.gate.key)
        self._publisher = Publisher(settings, ports, self.blobs, outgoing, tally)

    def carry_out(self, state: CoordinatorState, effects: Sequence[Effect]) -> None:
        """Does what a batch of steps wants done.

        Args:
          state: After the batch.
          effects: Of all its steps, in order.

        Raises:
          StorageError: If the disk refuses; then nothing was published.
        """
        self._persistence.commit(self.long.take(effects), self._ports.clock.now_ms())
        for effect in self.long.due(effects):
            self._do(state, effect)
        self._outgoing.pump()

    def _do(self, state: CoordinatorState, effect: Effect) -> None:
        """Carries out what does not have to last."""
        match effect:
            case (
                SendMessage()
                | PublishChunks()
                | PublishFinality()
                | SendGossip()
                | SendFrame()
                | SendAnswer()
                | SendContentKey()
            ):
                self._publisher.say(effect)
            case StoreFork(payload):
                # Its gossip comes after it.
                self._ports.keep_fork(payload)
            case RemoveInboxFile():
                self._ports.inbox.settle(effect)
            case (
                ComputeVersion() | EvaluateVersion() | ScoreVersion() | ExamineBundle()
            ):
                self._hand_over(state, effect)
            case FindMissingBlobs() | LookUpUpdate() | StorePeerBlob():
                self._look_up(effect)
            case RecordAcceptance() | RecordRefusal() | RecordOverLimit() | LogLine():
                self._record(state, effect)
            case StoreVersion() | StoreMetrics() | StoreFailure():
                self._ports.monitor.versions_changed()
            case AdoptSnapshot(manifest):
                height = manifest.header.height
                self._ports.monitor.log(LogLine(f"has the state of height {height}"))
                self.restarts = True
            case _:
                # The other effects were carried out by `commit`.
                return

    def _look_up(self, effect: FindMissingBlobs | LookUpUpdate | StorePeerBlob) -> None:
        """Answers from the store, and remembers what will be asked of it next."""
        store = self._ports.store
        match effect:
            case FindMissingBlobs(task, digests):
                absent = [each for each in digests if not store.has_blob(each)]
                self._ports.put(MissingBlobsFound(task, tuple(absent)))
            case LookUpUpdate(known, other):
                self._ports.put(UpdateLookedUp(update_of(store, known), other))
            case StorePeerBlob(digest, content):
                self.blobs.keep(digest, content)

    def _record(
        self,
        state: CoordinatorState,
        effect: RecordAcceptance | RecordRefusal | RecordOverLimit | LogLine,
    ) -> None:
        match effect:
            case RecordOverLimit(device):
                self._tally.ignore(device)
            case RecordAcceptance():
                self._tally.accept(effect)
            case RecordRefusal(peer=peer):
                self._tally.refuse(effect)
                name = directory.name_of(state.ledger, peer) if peer else ""
                self._ports.monitor.refused(effect, name)
            case LogLine():
                self._ports.monitor.log(effect)

    def _hand_over(
        self,
        state: CoordinatorState,
        effect: ComputeVersion | EvaluateVersion | ScoreVersion | ExamineBundle,
    ) -> None:
        executor = self._ports.executor
        match effect:
            case ComputeVersion(task):
                work = self._jobs.aggregation(effect, state.tasks[task].spec)
                if callable(work):
                    executor.aggregate(work)
                else:
                    self._ports.put(work)
            case EvaluateVersion():
                self._evaluate(effect)
            case ScoreVersion(task):
                inputs = self._jobs.scoring(effect, state.tasks[task].spec)
                if isinstance(inputs, ScoringInputs):
                    executor.score(inputs)
                else:
                    self._ports.put(inputs)
            case ExamineBundle(bundle):
                executor.examine(self._jobs.examination(bundle))

    def _evaluate(self, asked: EvaluateVersion) -> None:
        if not self._ports.executor.evaluates:
            return
        bundle = self.blobs.get(asked.bundle)
        inference = self._ports.store.blob(asked.inference)
        if bundle is None or inference is None:
            # A task that was announced without its blobs harms itself alone.
            self._ports.monitor.warn(
                f"task {asked.task}: its bundle or model is not here"
            )
            return
        self._ports.executor.evaluate(asked, bundle, inference)
