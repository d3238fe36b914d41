"""A board: the product's own loop, in a world that may stop at any call of it.

The ports are memory that outlives a power cut, a trainer that takes its time, and the
simulated broker. Each call of one is an instant at which the power may go.
"""

from collections.abc import Callable, Sequence

import numpy as np

from starling.agent.loop.event_loop import AgentLoop
from starling.agent.loop.memory_store import MemoryAgentStore
from starling.agent.loop.ports import AgentItem, AgentPorts
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.effects import SpoolEntry
from starling.agent.step.state import AgentSettings, AgentState
from starling.broker.link_events import (
    AckToken,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    MessageArrived,
    MqttMessage,
)
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.crypto.sealed_blob import ENTROPY_BYTES
from starling.protocol.ids import Digest
from starling.protocol.learning.vector_codecs import CODECS, GridVector
from starling.protocol.privacy.gaussian_dp import Budget
from starling.protocol.wire.envelope import Envelope
from tests.sim.simulator.invariants import Invariants
from tests.sim.simulator.mqtt_broker import Broker
from tests.sim.simulator.node import SimulatedNode
from tests.sim.simulator.virtual_time import PowerCut, Timeline

TRAINING_S = 2.0
LOADING_S = 0.3
PACKET_BYTES_MAX = 131_072
WINDOW = 64


class BoardNode(SimulatedNode):
    """One board.

    Attributes:
      disk: What survives a power cut.
      loses: Whether its power goes when its update is made and not yet spooled.
    """

    def __init__(
        self,
        name: str,
        time: Timeline,
        broker: Broker,
        law: Invariants,
        settings: AgentSettings,
        trusted: TrustedState,
        cap: Budget | None,
    ) -> None:
        super().__init__(
            name, time, broker, settings.topics.board_filters(settings.device)
        )
        self.disk = MemoryAgentStore()
        self.settings = settings
        self.cap = cap
        self.law = law
        self.loses = False
        self._pinned = trusted
        self._loop: AgentLoop | None = None

    @property
    def state(self) -> AgentState | None:
        """Of its core; None while it has no power."""
        return None if self._loop is None else self._loop.state

    def begin(self) -> None:
        """Counts the start, reads the disk, asks the core."""
        self.settings, state, effects = self.disk.start(
            self.settings, self._pinned, self.cap, self.time.now_s
        )
        ports = AgentPorts(
            lambda: self.time.now_s,
            _CrashingBus(self),
            _CrashingStore(self),
            _SimulatedTrainer(self),
            _TraceMonitor(self),
            self.soon,
        )
        self._loop = AgentLoop(self.settings, state, ports)
        self._loop.begin(effects)
        self._set_will(self._loop)
        self.wake_at(self._loop.wake_at_s)

    def forget(self) -> None:
        """Memory is gone, and receipts that were not synced may be."""
        self._loop = None
        for update in sorted(self.disk.accepted):
            if self.time.happens(self.time.weather.crash * 10):
                self.disk.accepted.discard(update)

    def turn(self, *items: AgentItem) -> None:
        """Lets the loop take what happened."""
        assert self._loop is not None
        self._loop.turn(items)
        self.law.board_rests(self)
        self.wake_at(self._loop.wake_at_s)

    def soon(self, event: e.Event) -> None:
        """Lets the loop take an event after what happens now."""
        self.later(0.0, lambda: self.turn(event))

    def wake(self) -> None:
        """The core's moment has come."""
        self.turn()

    def connected(self) -> None:
        event = LinkConnected(PACKET_BYTES_MAX, False, WINDOW)
        self.guard(lambda: self.turn(event))

    def disconnected(self) -> None:
        def lose() -> None:
            self.turn(LinkDisconnected("weather", 1.0))
            assert self._loop is not None
            self._set_will(self._loop)

        self.guard(lose)

    def _set_will(self, loop: AgentLoop) -> None:
        will = loop.last_will()
        self.law.published(self.name, will.topic, will.payload)
        self.link.set_will(will)

    def delivered(self, publish_id: int) -> None:
        self.guard(lambda: self.turn(Delivered(publish_id, 0)))

    def arrived(self, message: MqttMessage, token: tuple[int, int]) -> None:
        event = MessageArrived(message.topic, message.payload, AckToken(*token))
        self.law.delivered(self.name, message.payload)
        self.guard(lambda: self.turn(event))


class _CrashingBus:
    """The link: the power may go before a message leaves, or is acknowledged."""

    def __init__(self, board: BoardNode) -> None:
        self._board = board
        self._up = board.settings.topics.up(board.settings.device)

    def publish(self, message: MqttMessage) -> int:
        board = self._board
        board.instant()
        if message.topic != self._up:
            board.law.published(board.name, message.topic, message.payload)
        return board.link.publish(message)

    def acknowledge(self, token: AckToken) -> None:
        self._board.instant()
        self._board.link.acknowledge(token)


class _CrashingStore:
    """The disk: the power may go before each write."""

    def __init__(self, board: BoardNode) -> None:
        self._board = board

    def _disk(self, deed: str) -> MemoryAgentStore:
        board = self._board
        board.instant()
        board.time.note(board.name, deed)
        return board.disk

    def spend(self, entry: bytes) -> None:
        self._disk("spend").spend(entry)

    def keep_labels(self, batches: Sequence[bytes]) -> None:
        self._disk("keep_labels").keep_labels(batches)

    def advance_boot(self, boot: int) -> None:
        self._disk("advance_boot").advance_boot(boot)

    def put_progress(self, trusted: TrustedState, manifest: bytes) -> None:
        self._disk("put_progress").put_progress(trusted, manifest)

    def put_blob(self, digest: Digest, content: bytes) -> None:
        self._disk("put_blob").put_blob(digest, content)

    def blob_piece(self, digest: Digest, start: int, length: int) -> bytes:
        return self._board.disk.blob_piece(digest, start, length)

    def keep_blobs(self, digests: frozenset[Digest]) -> None:
        self._disk("keep_blobs").keep_blobs(digests)

    def adopt(self, model: f.AdoptModel) -> None:
        self._disk("adopt").adopt(model)
        self._board.law.adopts(self._board, model)

    def spool(self, entry: SpoolEntry, content: bytes) -> None:
        disk = self._disk("spool")
        self._board.law.spools(self._board, entry)
        disk.spool(entry, content)

    def renew(self, entry: SpoolEntry, lease: Envelope) -> SpoolEntry:
        return self._disk("renew").renew(entry, lease)

    def chunk(self, entry: SpoolEntry, index: int) -> bytes:
        self._board.law.sends(self._board, entry)
        return self._board.disk.chunk(entry, index)

    def mark_accepted(self, entry: SpoolEntry) -> None:
        self._disk("mark_accepted").mark_accepted(entry)

    def keep_proof(self, entry: SpoolEntry, proof: bytes) -> None:
        self._disk("keep_proof").keep_proof(entry, proof)

    def delete_spooled(self, entry: SpoolEntry, why: str) -> None:
        disk = self._disk("delete_spooled")
        self._board.law.lets_go(self._board, entry)
        disk.delete_spooled(entry, why)


class _SimulatedTrainer:
    """Trains on nothing, and takes its time; the power may go before each order."""

    def __init__(self, board: BoardNode) -> None:
        self._board = board
        self._job = 0
        self._asked: f.StartTraining | None = None

    def load(self, bundle: Digest) -> None:
        self._board.instant()
        assert bundle in self._board.disk.blobs
        self._later(LOADING_S, lambda: e.BundleLoaded(bundle))

    def start(self, asked: f.StartTraining) -> None:
        self._board.instant()
        order = asked.order
        assert {order.bundle, order.theta} <= self._board.disk.blobs.keys()
        self._asked = asked
        self._later(TRAINING_S / 10, self._tried)

    def resume(self) -> None:
        self._board.instant()
        asked = self._asked
        assert asked is not None
        self._board.law.draws_noise(self._board, asked.order, empty=asked.empty)
        self._later(TRAINING_S, self._trained)

    def stop(self, why: str) -> None:
        del why
        self._board.instant()
        self._job += 1
        self._asked = None

    def _later(self, mean_s: float, make: Callable[[], e.Event]) -> None:
        self._job += 1
        job = self._job

        def answer() -> None:
            if job == self._job:
                self._board.turn(make())

        self._board.later(self._board.time.about(mean_s), answer)

    def _tried(self) -> e.Event:
        time = self._board.time
        if time.happens(time.weather.failure):
            return e.TrainingFailed(e.FailureStage.TRAINING, "the trainer gave up")
        return e.TrainerReady()

    def _trained(self) -> e.Event:
        asked, time = self._asked, self._board.time
        assert asked is not None
        if self._board.loses:
            raise PowerCut
        self._asked = None
        if time.happens(time.weather.failure):
            return e.TrainingFailed(e.FailureStage.TRAINING, "the trainer crashed")
        order = asked.order
        values = np.full(order.dimension, time.rng.randrange(-9, 9), np.int64)
        payload = CODECS[order.codec].encode(
            GridVector(values << 20, -24), time.rng.randbytes
        )
        return e.TrainingFinished(payload, time.rng.randbytes(ENTROPY_BYTES))


class _TraceMonitor:
    """Writes what happens into the trace."""

    def __init__(self, board: BoardNode) -> None:
        self._board = board

    def connected(self) -> None:
        """The event that follows stands in the trace."""

    def disconnected(self, event: LinkDisconnected) -> None:
        """The event that follows stands in the trace."""

    def stepped(self, event: e.Event, effects: tuple[f.Effect, ...]) -> None:
        del effects
        self._board.time.note(self._board.name, type(event).__name__)

    def note(self, text: str, *, warns: bool) -> None:
        del warns
        self._board.instant()
        self._board.time.note(self._board.name, text)
