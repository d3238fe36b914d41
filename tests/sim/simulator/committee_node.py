"""A coordinator among several: it gossips, and may lack what a job needs."""

from starling.coordinator.aggregation.version_computation import (
    StoredVector,
    UnopenableVectors,
    recompute,
)
from starling.coordinator.chain.node.node import SendGossip
from starling.coordinator.chain.state.task_records import JobMember
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.loop.messaging.publisher import Publisher
from starling.coordinator.loop.storage.blob_cache import BlobCache, update_of
from starling.coordinator.step import effects as e
from starling.coordinator.step import events as c
from starling.coordinator.step.effects import Effect
from starling.coordinator.step.events import Event
from starling.coordinator.step.state import CoordinatorSettings
from starling.protocol.errors import AggregationError, ProtocolError
from starling.protocol.ids import Digest
from starling.protocol.learning.task import TaskSpec
from tests.sim.simulator.coordinator_node import (
    AGGREGATION_S,
    CoordinatorNode,
    CrashingStore,
)
from tests.sim.simulator.invariants import Invariants
from tests.sim.simulator.mqtt_broker import Broker
from tests.sim.simulator.virtual_time import Timeline


class CommitteeNode(CoordinatorNode):
    """One of several."""

    def __init__(
        self,
        index: int,
        time: Timeline,
        broker: Broker,
        law: Invariants,
        settings: CoordinatorSettings,
        store: CrashingStore,
    ) -> None:
        super().__init__(time, broker, law, settings, store, f"office{index}")

    @property
    def height(self) -> int:
        """Of its stored chain."""
        header = self.store.tip().header
        return 0 if header is None else header.height

    def _do(self, effect: Effect) -> None:
        match effect:
            case (
                SendGossip()
                | e.SendFrame()
                | e.SendAnswer()
                | e.SendContentKey()
                | e.PublishChunks()
            ):
                tally = CoordinatorCounters(0, lambda: 0.0)
                wholes = BlobCache(self.store)
                publisher = Publisher(
                    self.settings,
                    self.store,
                    wholes,
                    self._outgoing,
                    tally,
                    lambda text: None,
                )
                publisher.say(effect)
            case e.FindMissingBlobs(task, digests):
                absent = [one for one in digests if not self.store.has_blob(one)]
                self._put(c.MissingBlobsFound(task, tuple(absent)))
            case e.LookUpUpdate(known, other):
                self._put(c.UpdateLookedUp(update_of(self.store, known), other))
            case e.ComputeVersion():
                event = self._computed(effect)
                self.later(self.time.about(AGGREGATION_S), lambda: self._put(event))
            case _:
                super()._do(effect)

    def _computed(self, asked: e.ComputeVersion) -> Event:
        """As `coordinator.runtime.workers`: says what it lacks, or cannot open."""
        assert self.state is not None
        spec = self.state.tasks[asked.task].spec
        lacks = self._lacks(asked, spec)
        if lacks is not None:
            return lacks
        before = asked.version - 1
        model = self.store.model(asked.task, before) if before else spec.initial
        assert model is not None

        def fetch(member: JobMember) -> StoredVector:
            found = self._upload(member)
            content_key = asked.keys.get(member.transaction)
            return StoredVector(found.update, found.blob, content_key)

        key, start = self.settings.gate.key, self._loaded(model)
        try:
            made = recompute(key, spec, asked.job, start, fetch)
        except (AggregationError, ProtocolError) as error:
            closed = error.updates if isinstance(error, UnopenableVectors) else ()
            return c.ComputationFailed(
                asked.task, asked.version, str(error), closed=closed
            )
        return c.VersionComputed(asked.task, asked.version, made)

    def _lacks(self, asked: e.ComputeVersion, spec: TaskSpec) -> Event | None:
        members = [member.transaction for member in asked.job.members]
        uploads = [one for one in members if self.store.upload(one) is None]
        before = asked.version - 1
        model = self.store.model(asked.task, before) if before else spec.initial
        wholes: list[Digest] = []
        if model is not None:
            parts = (model.theta, model.momentum, model.average)
            wholes = [one for one in parts if not self.store.has_blob(one)]
        if model is not None and not uploads and not wholes:
            return None
        return c.ComputationFailed(
            asked.task, asked.version, "lacks", tuple(uploads), tuple(wholes)
        )
