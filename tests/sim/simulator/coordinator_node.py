"""A coordinator: the product's own loop, in a world that may stop at any call of it.

The ports are memory that outlives a power cut, and the simulated broker. Each call of
one that leaves something behind is an instant at which the power may go.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

from starling.broker.link_events import (
    AckToken,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    MessageArrived,
    MqttMessage,
)
from starling.coordinator.aggregation.strategy import ModelState, PackedModel
from starling.coordinator.aggregation.version_computation import Fetch, recompute
from starling.coordinator.chain.node.node import JournalVote
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.loop.event_loop import CoordinatorLoop, first_counter
from starling.coordinator.loop.memory_ports import MemoryInbox, SilentMonitor
from starling.coordinator.loop.ports import Clock, Item, LoopPorts, ScoringInputs, Work
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.step import effects as e
from starling.coordinator.step import events as c
from starling.coordinator.step.state import CoordinatorSettings, CoordinatorState
from starling.protocol.chain.blocks import Block, Certificate
from starling.protocol.chain.genesis import Genesis
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.ids import DeviceId, Digest
from starling.protocol.learning.task import ModelDigests, TaskSpec
from tests.sim.simulator.invariants import Invariants, require
from tests.sim.simulator.mqtt_broker import Broker
from tests.sim.simulator.node import SimulatedNode
from tests.sim.simulator.virtual_time import Timeline

BATCH_S = 0.02
AGGREGATION_S = 0.3
INBOX_EVERY_S = 0.25
VERSIONS_KEPT = 20
PACKET_BYTES_MAX = 131_072
WINDOW = 64
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


class CrashingStore(SqliteStore):
    """The store in memory: a power cut comes before or after a transaction."""

    instant: Callable[[], None]
    law: Invariants

    @classmethod
    def under(cls, genesis: Genesis, law: Invariants) -> Self:
        """Starts a chain that keeps some invariants."""
        store = cls.in_memory(genesis)
        store.instant, store.law = lambda: None, law
        return store

    def put_block(
        self,
        block: Block,
        certificate: Certificate,
        changes: Mapping[bytes, bytes | None],
        identities: Sequence[Digest],
    ) -> None:
        super().put_block(block, certificate, changes, identities)
        self.law.stores_block(self, block)

    def put_model(self, task: int, version: int, model: ModelDigests) -> None:
        super().put_model(task, version, model)
        self.law.stores_model(version, model)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.instant()
        with super().transaction():
            yield
        self.instant()


class CrashingInbox(MemoryInbox):
    """The folder of commands: a power cut comes before a file is removed."""

    def __init__(self, time: Timeline) -> None:
        super().__init__()
        self.instant: Callable[[], None] = lambda: None
        self._time = time
        self._due_s = 0.0

    @property
    def due_s(self) -> float:
        return max(self._due_s, super().due_s)

    def fresh(self, keep: object) -> Sequence[tuple[str, bytes]]:
        self._due_s = self._time.now_s + INBOX_EVERY_S
        return super().fresh(lambda content, done: done())

    def settle(self, settled: e.RemoveInboxFile) -> None:
        self.instant()
        super().settle(settled)


class CoordinatorNode(SimulatedNode):
    """One coordinator.

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
        name: str = "coordinator",
    ) -> None:
        super().__init__(
            name, time, broker, settings.topics.coordinator_filters(settings.name)
        )
        self.settings = settings
        self.store = store
        self.votes = CrashingVoteJournal(law)
        self.boots = 0
        self.inbox = CrashingInbox(time)
        self.loop: CoordinatorLoop | None = None
        self.refused: dict[tuple[DeviceId | None, str], int] = {}
        self.ignored: Counter[DeviceId] = Counter()
        self._law = law
        self._items: list[Item] = []
        self._due = False
        for port in (store, self.votes, self.inbox):
            port.instant = self.instant

    @property
    def state(self) -> CoordinatorState | None:
        """Of its core; None without power."""
        return None if self.loop is None else self.loop.state

    @property
    def height(self) -> int:
        """Of its stored chain."""
        return self.store.height()

    @property
    def alone(self) -> bool:
        """Whether nobody else could give it what it lost."""
        return len(self.settings.ledger.genesis.validators.members) == 1

    def begin(self) -> None:
        """As `runtime.assembly`: counts the start, and opens the loop."""
        self.boots += 1
        self.inbox.reopen()
        ports = LoopPorts(
            Clock(lambda: self.time.now_s, self._now_ms),
            self.store,
            self.votes,
            self.inbox,
            SimulatedJobs(self),
            NotingMonitor(self),
            self.put,
            lambda proof: self.instant(),
            lambda *job: self.compute(*job),
            self._examined,
        )
        counter = first_counter(self.boots)
        tally = NotingCounters(self)
        loop = CoordinatorLoop(self.settings, ports, counter, VERSIONS_KEPT, tally)
        will = loop.will
        self._law.published(self.name, will.topic, will.payload)
        self.link.set_will(will)
        self.loop = loop
        loop.begin(self)
        self._rest()

    def forget(self) -> None:
        self.loop = None
        self._items.clear()
        self._due = False

    def publish(self, message: MqttMessage) -> int:
        """Hands a message to the broker; the power may go before it does."""
        if self.link.up:
            self.instant()
            self._law.published(self.name, message.topic, message.payload)
        return self.link.publish(message)

    def acknowledge_many(self, tokens: Iterable[AckToken]) -> None:
        """Lets the broker forget messages; the power may go between two."""
        for token in tokens:
            self.instant()
            self.link.acknowledge((token.connection, token.packet))

    def compute(
        self,
        key: OpeningKey,
        spec: TaskSpec,
        job: AggregationJob,
        before: ModelState,
        fetch: Fetch,
    ) -> PackedModel:
        """The arithmetic of a job."""
        return recompute(key, spec, job, before, fetch)

    def connected(self) -> None:
        self.put(LinkConnected(PACKET_BYTES_MAX, True, WINDOW))

    def disconnected(self) -> None:
        self.put(LinkDisconnected("the connection was lost", 1.0))

    def arrived(self, message: MqttMessage, token: tuple[int, int]) -> None:
        self.put(MessageArrived(message.topic, message.payload, AckToken(*token)))

    def delivered(self, publish_id: int) -> None:
        self.put(Delivered(publish_id, 0))

    def wake(self) -> None:
        self._turn_soon()

    def put(self, item: Item) -> None:
        """Hands the loop something for its next turn."""
        if self.alone and isinstance(item, c.ComputationFailed):
            require(
                not item.uploads and not item.blobs,
                "the store lacks a part of an open job",
            )
        self._items.append(item)
        self._turn_soon()

    def drop(self, name: str, content: bytes) -> None:
        """An operator puts a transaction into the inbox."""
        self.inbox.drop(name, content)
        if self.alive:
            self._turn_soon()

    def count(self, effect: e.RecordRefusal) -> None:
        """Something was refused."""
        key = effect.device, effect.reason.name
        self.refused[key] = self.refused.get(key, 0) + 1
        self.time.note(self.name, f"refuses {effect.reason.name}: {effect.detail}")

    def _now_ms(self) -> int:
        if self.time.happens(self.time.weather.clock):
            return self.time.rng.choice(WRONG_CLOCKS_MS)
        return int(1000 * self.time.now_s)

    def _turn_soon(self) -> None:
        if not self._due:
            self._due = True
            self.later(self.time.about(BATCH_S), self._turn)

    def _turn(self) -> None:
        self._due = False
        items, self._items = self._items, []
        assert self.loop is not None
        for item in items:
            self.time.note(self.name, type(item).__name__)
        self.loop.turn(items)
        if self.loop.restarts:
            self.begin()
            self.connected()
        self._law.coordinator_rests(self)
        self._rest()

    def _rest(self) -> None:
        assert self.loop is not None
        wake_at_s = self.loop.wake_at_s
        if wake_at_s <= self.time.now_s:
            self._turn_soon()
        else:
            self.wake_at(wake_at_s)

    def _examined(self, bundle: Digest, content: bytes | None) -> c.BundleExamined:
        """Takes whatever is here for a bundle: here no graph is ever run."""
        if content is None:
            return c.BundleExamined(bundle, absent=True)
        return c.BundleExamined(bundle, dimension=self.dimension, size=len(content))


class SimulatedJobs:
    """Long work: it takes a while, and a power cut takes its result."""

    evaluates = True

    def __init__(self, node: CoordinatorNode) -> None:
        self._node = node

    def aggregate(self, work: Work) -> None:
        self._ended(work())

    def examine(self, work: Work) -> None:
        self._node.instant()
        self._node.put(work())

    def evaluate(
        self, asked: e.EvaluateVersion, bundle: bytes, inference: bytes
    ) -> None:
        del bundle, inference
        self._ended(c.VersionEvaluated(asked.task, asked.version, 0.5, 1.0))

    def score(self, inputs: ScoringInputs) -> None:
        raise AssertionError("no task pins a root set")

    def _ended(self, event: c.Event) -> None:
        node = self._node
        node.instant()
        node.later(node.time.about(AGGREGATION_S), lambda: node.put(event))


class NotingMonitor(SilentMonitor):
    """Writes what people would be told into the trace."""

    def __init__(self, node: CoordinatorNode) -> None:
        self._node = node

    def log(self, line: e.LogLine) -> None:
        lacks = "which is not here" in line.text
        require(
            not (self._node.alone and lacks), "a whole is offered that the store lacks"
        )
        self._node.time.note(self._node.name, line.text)

    def warn(self, text: str) -> None:
        require(not self._node.alone, f"a coordinator warns: {text}")
        self._node.time.note(self._node.name, text)


class NotingCounters(CoordinatorCounters):
    """Counts for the whole life of the node."""

    def __init__(self, node: CoordinatorNode) -> None:
        super().__init__(0, lambda: node.time.now_s)
        self._node = node

    def refuse(self, effect: e.RecordRefusal) -> None:
        super().refuse(effect)
        self._node.count(effect)

    def ignore(self, device: DeviceId) -> None:
        super().ignore(device)
        self._node.ignored[device] += 1
