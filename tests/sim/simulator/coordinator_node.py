"""A coordinator: its core, persistence over memory, and a runtime that may stop.

`_turn` stands for `coordinator.runtime.event_loop`: a batch of events, then votes, then
one transaction of the store, then everything else, and acknowledgements last.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from starling.broker.link_events import MqttMessage
from starling.coordinator import machine
from starling.coordinator.aggregation.strategy import ModelState, unpack_model
from starling.coordinator.aggregation.version_computation import StoredVector, recompute
from starling.coordinator.chain.node.node import JournalVote
from starling.coordinator.chain.state.task_records import JobMember
from starling.coordinator.chain.storage.memory_store import MemoryStore
from starling.coordinator.loop.event_loop import COUNTERS_PER_BOOT_BITS
from starling.coordinator.loop.messaging.outbound_queue import OutboundQueue
from starling.coordinator.loop.messaging.priority_lanes import PriorityLane
from starling.coordinator.loop.restored_state import restore, unevaluated
from starling.coordinator.loop.storage.blob_cache import final_of, update_of
from starling.coordinator.loop.storage.persistence import Persistence
from starling.coordinator.step import effects as e
from starling.coordinator.step import events as c
from starling.coordinator.step.effects import Effect
from starling.coordinator.step.events import Event
from starling.coordinator.step.state import CoordinatorSettings, CoordinatorState
from starling.protocol.chain.blocks import Block, Certificate
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.light_client import FINAL
from starling.protocol.errors import (
    AggregationError,
    DecodeError,
    ProtocolError,
    Reason,
)
from starling.protocol.ids import DeviceId, Digest, device_from_name, device_name
from starling.protocol.learning.task import ModelDigests
from starling.protocol.wire.chunks import CHUNK, chunk_at, chunk_count
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from tests.sim.simulator.invariants import Invariants
from tests.sim.simulator.mqtt_broker import Broker
from tests.sim.simulator.node import SimulatedNode
from tests.sim.simulator.virtual_time import Timeline

BATCH_S = 0.02
AGGREGATION_S = 0.3
INBOX_EVERY_S = 0.25
VERSIONS_KEPT = 20
WRONG_CLOCKS_MS = (0, 1, 1 << 40, 1 << 44)
"""1970, and years that nobody here will see."""


class CrashingVoteJournal:
    """The vote journal in memory: durable as soon as `append` returns."""

    def __init__(self, law: Invariants) -> None:
        self.entries: list[bytes] = []
        self._law = law
        self.instant: Callable[[], None] = lambda: None

    def append(self, votes: Sequence[JournalVote], height: int) -> None:
        del height
        self.instant()
        for vote in votes:
            self._law.votes(vote.payload)
            self.entries.append(vote.payload)

    def close(self) -> None:
        """Nothing is open."""


class CrashingStore(MemoryStore):
    """The store in memory: a power cut comes before or after a transaction."""

    def __init__(self, genesis: Genesis, law: Invariants) -> None:
        super().__init__(genesis)
        self.instant: Callable[[], None] = lambda: None
        self._law = law

    def put_block(
        self,
        block: Block,
        certificate: Certificate,
        changes: Mapping[bytes, bytes | None],
        identities: Sequence[Digest],
    ) -> None:
        super().put_block(block, certificate, changes, identities)
        self._law.stores_block(self, block)

    def put_model(self, task: int, version: int, model: ModelDigests) -> None:
        super().put_model(task, version, model)
        self._law.stores_model(version, model)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.instant()
        with super().transaction():
            yield
        self.instant()


class CoordinatorNode(SimulatedNode):
    """The one coordinator.

    Attributes:
      store: What survives a power cut, with `votes`, `boots` and `inbox`.
      refused: How often something was refused, by board and reason.
      dimension: Of the bundle, which is none in truth.
      ignored: How many messages of a board were dropped unread.
    """

    dimension = 0

    def __init__(
        self,
        time: Timeline,
        broker: Broker,
        law: Invariants,
        settings: CoordinatorSettings,
        store: CrashingStore,
        name: str = "office",
    ) -> None:
        super().__init__(
            name, time, broker, settings.topics.coordinator_filters(settings.name)
        )
        self.settings = settings
        self.store = store
        self.votes = CrashingVoteJournal(law)
        self.boots = 0
        self.inbox: dict[str, bytes] = {}
        self.state: CoordinatorState | None = None
        self.refused: dict[tuple[DeviceId | None, str], int] = {}
        self.ignored: Counter[DeviceId] = Counter()
        self._law = law
        self._seen: set[str] = set()
        self._queue: list[Event | tuple[MqttMessage, tuple[int, int]]] = []
        self._due = False
        store.instant = self.instant
        self.votes.instant = self.instant

    def begin(self) -> None:
        """As `runtime.assembly`: counts the start, reads the store, asks."""
        self.boots += 1
        counter = self.boots << COUNTERS_PER_BOOT_BITS
        now_s, now_ms = self.time.now_s, self._now_ms()
        restored = restore(
            self.settings, self.store, self.votes.entries, counter + 1, now_s
        )
        height = restored.ledger.height
        self._persistence = Persistence(self.store, self.votes, height, VERSIONS_KEPT)
        self._outgoing = OutboundQueue(self.link.publish)
        self.state, effects = machine.begin(self.settings, restored, now_s, now_ms)
        will = machine.farewell(self.settings, counter, height)
        self._law.published(self.name, will.topic, will.payload)
        self.link.set_will(MqttMessage(will.topic, will.payload, retain=True))
        self._carry_out((*effects, *unevaluated(self.store, self.state)))
        self.wake_at(self.state.wake_at_s)
        self._look_into_inbox()

    def forget(self) -> None:
        self.state = None
        self._queue.clear()
        self._seen.clear()
        self._due = False

    def connected(self) -> None:
        self._put(c.BusConnected())

    def disconnected(self) -> None:
        self._outgoing.disconnected()
        self._put(c.BusDisconnected())

    def arrived(self, message: MqttMessage, token: tuple[int, int]) -> None:
        self._put((message, token))

    def delivered(self, publish_id: int) -> None:
        self._outgoing.delivered(publish_id)

    def wake(self) -> None:
        self._put(c.ClockTicked())

    def _now_ms(self) -> int:
        if self.time.happens(self.time.weather.clock):
            return self.time.rng.choice(WRONG_CLOCKS_MS)
        return int(1000 * self.time.now_s)

    def _put(self, item: Event | tuple[MqttMessage, tuple[int, int]]) -> None:
        self._queue.append(item)
        if not self._due:
            self._due = True
            self.later(self.time.about(BATCH_S), self._turn)

    def _look_into_inbox(self) -> None:
        for name in sorted(self.inbox.keys() - self._seen):
            self._seen.add(name)
            self._put(c.TransactionArrived(name, self.inbox[name]))
        if self.inbox:
            self.later(INBOX_EVERY_S, self._look_into_inbox)

    def drop(self, name: str, content: bytes) -> None:
        """An operator puts a transaction into the inbox."""
        self.inbox[name] = content
        if self.alive:
            self.later(0.0, self._look_into_inbox)

    def _turn(self) -> None:
        """One batch: events in, effects out, acknowledgements last."""
        self._due = False
        items, self._queue = self._queue, []
        effects: list[Effect] = []
        tokens: list[tuple[int, int]] = []
        for item in items:
            if isinstance(item, tuple):
                self._message(item[0], effects)
                tokens.append(item[1])
            else:
                self._step(item, effects)
        assert self.state is not None
        if self.time.now_s >= self.state.wake_at_s:
            self._step(c.ClockTicked(), effects)
        self._carry_out(effects)
        for token in tokens:
            self.link.acknowledge(token)
        self._law.office_rests(self)
        self.wake_at(self.state.wake_at_s)

    def _message(self, message: MqttMessage, effects: list[Effect]) -> None:
        try:
            branch, whose, leaf = self.settings.topics.parse(message.topic)
            device = device_from_name(whose)
            if branch == "g" and whose == self.settings.name:
                return
            if branch == "g":
                self._step(c.PeerFrameArrived(device, message.payload), effects)
                return
            if leaf in _EVENTS:
                self._step(_EVENTS[leaf](device, message.payload), effects)
            else:
                self._count(e.RecordRefusal(device, Reason.UNKNOWN_KIND, leaf))
        except DecodeError as error:
            self._count(e.RecordRefusal(None, error.reason, str(error)))

    def _step(self, event: Event, effects: list[Effect]) -> None:
        assert self.state is not None
        self.time.note(self.name, type(event).__name__)
        self.state, caused = machine.step(
            self.settings, self.state, event, self.time.now_s, self._now_ms()
        )
        effects.extend(caused)
        for asked in caused:
            # Examined at once where it is here; else after the batch was stored.
            if isinstance(asked, e.ExamineBundle) and self.store.blob(asked.bundle):
                self._step(self._examined(asked.bundle), effects)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        self._persistence.commit(effects, self._now_ms())
        for effect in effects:
            self.instant()
            self._do(effect)
        self._outgoing.pump()

    def _do(self, effect: Effect) -> None:
        match effect:
            case e.SendMessage(topic, payload, retain):
                self._publish(topic, payload, retain)
            case e.PublishChunks() | e.PublishFinality():
                self._answer(effect)
            case e.RemoveInboxFile(name=name):
                self.inbox.pop(name, None)
            case e.LookUpUpdate(known, other):
                self._put(c.UpdateLookedUp(update_of(self.store, known), other))
            case e.ExamineBundle(bundle):
                # A second answer changes nothing.
                self._put(self._examined(bundle))
            case e.ComputeVersion() | e.EvaluateVersion():
                self._work(effect)
            case e.RecordOverLimit(device):
                self.ignored[device] += 1
            case e.RecordRefusal():
                self._count(effect)
            case _:
                self.time.note(self.name, type(effect).__name__)

    def _count(self, effect: e.RecordRefusal) -> None:
        key = effect.device, effect.reason.name
        self.refused[key] = self.refused.get(key, 0) + 1
        self.time.note(self.name, f"refuses {effect.reason.name}: {effect.detail}")

    def _publish(self, topic: str, payload: bytes, retain: bool) -> None:
        self._law.published(self.name, topic, payload)
        self._outgoing.add(MqttMessage(topic, payload, retain), PriorityLane.CONTROL)

    def _answer(self, effect: e.PublishChunks | e.PublishFinality) -> None:
        topics, name = self.settings.topics, device_name(effect.device)
        if isinstance(effect, e.PublishChunks):
            whole = self.store.blob(effect.digest)
            assert whole is not None, "a whole is offered that the store lacks"
            for index in effect.indices:
                if index < chunk_count(len(whole)):
                    chunk = chunk_at(whole, effect.digest, index)
                    self._publish(topics.model(name), CHUNK.pack(chunk), False)
            return
        proof = final_of(self.store, effect.transaction)
        if proof is not None:
            key, chain_id = self.settings.ledger.key, self.settings.gate.chain_id
            body = FINAL.pack(proof)
            envelope = sign(key, chain_id, MessageKind.FINAL, effect.counter, body)
            self._publish(topics.down(name), ENVELOPE.pack(envelope), False)

    def _examined(self, bundle: Digest) -> c.BundleExamined:
        """Takes whatever is here for a bundle: here no graph is ever run."""
        found = self.store.blob(bundle)
        if found is None:
            return c.BundleExamined(bundle, absent=True)
        return c.BundleExamined(bundle, dimension=self.dimension, size=len(found))

    def _work(self, effect: e.ComputeVersion | e.EvaluateVersion) -> None:
        event = (
            self._aggregated(effect) if isinstance(effect, e.ComputeVersion) else None
        )
        if isinstance(effect, e.EvaluateVersion):
            event = c.VersionEvaluated(effect.task, effect.version, 0.5, 1.0)
        assert event is not None
        self.later(self.time.about(AGGREGATION_S), lambda: self._put(event))

    def _aggregated(self, asked: e.ComputeVersion) -> Event:
        assert self.state is not None
        spec = self.state.tasks[asked.task].spec
        before = asked.version - 1
        model = self.store.model(asked.task, before) if before else spec.initial
        assert model is not None, "the store lacks the version before"
        try:
            made = recompute(
                self.settings.gate.key,
                spec,
                asked.job,
                self._loaded(model),
                self._upload,
            )
        except (AggregationError, ProtocolError) as error:
            return c.ComputationFailed(asked.task, asked.version, str(error))
        return c.VersionComputed(asked.task, asked.version, made)

    def _loaded(self, model: ModelDigests) -> ModelState:
        parts = (
            self.store.blob(d) for d in (model.theta, model.momentum, model.average)
        )
        return unpack_model(*[part for part in parts if part is not None])

    def _upload(self, member: JobMember) -> StoredVector:
        stored = self.store.upload(member.transaction)
        assert stored is not None, "the store lacks an update of an open job"
        return StoredVector(stored.update, stored.blob)


_EVENTS: dict[str, Callable[[DeviceId, bytes], Event]] = {
    "up": c.ChunkArrived,
    "say": c.BoardMessageArrived,
    "state": c.BoardStateArrived,
}
