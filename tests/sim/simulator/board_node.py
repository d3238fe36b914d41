"""A board: the agent's core, hands that a power cut may stop, and what its disk holds.

`carry_out` stands for `agent.runtime.effect_executor`: each effect is done completely
before the next one begins, and a message is acknowledged after all effects that it led
to.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from starling.agent import machine
from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.effects import SpoolEntry
from starling.agent.step.state import AgentSettings, AgentState, PendingUpload
from starling.agent.training.trainer_messages import TrainingOrder
from starling.broker.link_events import MqttMessage
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.crypto.sealed_blob import ENTROPY_BYTES
from starling.protocol.errors import TransportError
from starling.protocol.ids import Digest, H
from starling.protocol.learning.vector_codecs import CODECS, GridVector
from starling.protocol.privacy.gaussian_dp import Budget
from starling.protocol.wire.chunks import CHUNK, chunk_at
from starling.protocol.wire.message_bodies import UPLOAD, DevicePhase
from tests.sim.simulator.invariants import Invariants
from tests.sim.simulator.mqtt_broker import Broker
from tests.sim.simulator.node import SimulatedNode
from tests.sim.simulator.virtual_time import PowerCut, Timeline

TRAINING_S = 2.0
LOADING_S = 0.3


@dataclass
class Disk:
    """What survives a power cut.

    Attributes:
      boot: How often the agent was started.
      journal: The privacy ledger's entries.
      spool: Uploads by task and base version.
      accepted: Receipts that were noted; they may be lost.
      progress: Whom the board trusts, and its newest manifest.
      blobs: Bundles and models.
      proofs: Of final uploads, by task and base version.
    """

    boot: int = 0
    journal: list[bytes] = field(default_factory=list)
    spool: dict[tuple[int, int], tuple[SpoolEntry, bytes]] = field(default_factory=dict)
    accepted: set[Digest] = field(default_factory=set)
    progress: tuple[TrustedState, bytes] | None = None
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    proofs: dict[tuple[int, int], bytes] = field(default_factory=dict)


class BoardNode(SimulatedNode):
    """One board.

    Attributes:
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
        self.disk = Disk()
        self.settings = settings
        self.state: AgentState | None = None
        self.cap = cap
        self.loses = False
        self._pinned = trusted
        self._law = law
        self._job = 0
        self._order: TrainingOrder | None = None
        self._empty = False
        self._in_flight: dict[int, tuple[Digest, int]] = {}

    def begin(self) -> None:
        """As `runtime.assembly`: counts the start, reads the disk, asks the core."""
        disk = self.disk
        disk.boot += 1
        self.settings = replace(self.settings, boot=disk.boot)
        trusted, manifest = disk.progress or (self._pinned, b"")
        now_s = self.time.now_s
        waiting = [
            PendingUpload(entry, True, now_s + self.settings.pace.final_s)
            if entry.update in disk.accepted
            else PendingUpload(entry, False, now_s)
            for _, (entry, _) in sorted(disk.spool.items())
        ]
        self.state, effects = machine.begin(
            self.settings,
            trusted,
            PrivacyLedger.load(self.cap, disk.journal),
            frozenset(disk.blobs),
            waiting,
            manifest or None,
            now_s,
        )
        self.carry_out(effects)
        self._set_will()
        self.wake_at(self.state.wake_at_s)

    def forget(self) -> None:
        """Memory is gone, and receipts that were not synced may be."""
        self.state = None
        self._order = None
        self._job += 1
        self._in_flight.clear()
        for update in sorted(self.disk.accepted):
            if self.time.happens(self.time.weather.crash * 10):
                self.disk.accepted.discard(update)

    def step(self, event: e.Event) -> None:
        """Lets the core take an event, and does what it wants."""
        assert self.state is not None
        self.time.note(self.name, type(event).__name__)
        self.state, effects = machine.step(
            self.settings, self.state, event, self.time.now_s
        )
        self.carry_out(effects)
        self._law.board_rests(self)
        self.wake_at(self.state.wake_at_s)

    def wake(self) -> None:
        """The core's moment has come."""
        self.step(e.WakeTimeReached())

    def connected(self) -> None:
        self.guard(lambda: self.step(e.BrokerConnected()))

    def disconnected(self) -> None:
        def lose() -> None:
            self._in_flight.clear()
            self.step(e.BrokerDisconnected())
            self._set_will()

        self.guard(lose)

    def _set_will(self) -> None:
        assert self.state is not None
        self.state, will = machine.farewell(self.settings, self.state, DevicePhase.LOST)
        self._law.published(self.name, will.topic, will.payload)
        self.link.set_will(MqttMessage(will.topic, will.payload, will.retain))

    def delivered(self, publish_id: int) -> None:
        chunk = self._in_flight.pop(publish_id, None)
        if chunk is not None:
            event = e.ChunkDelivered(*chunk, taken=True)
            self.guard(lambda: self.step(event))

    def arrived(self, message: MqttMessage, token: tuple[int, int]) -> None:
        def take() -> None:
            self._law.delivered(self.name, message.payload)
            branch, _, leaf = self.settings.topics.parse(message.topic)
            maker = _EVENTS[branch, leaf]
            self.step(maker(message.payload))
            self.link.acknowledge(token)

        self.guard(take)

    def carry_out(self, effects: tuple[f.Effect, ...]) -> None:
        """Does all of it in order; the power may go before each.

        Raises:
          PowerCut: If it goes.
        """
        for effect in effects:
            self.instant()
            self._do(effect)
        if effects:
            self.instant()

    def _do(self, effect: f.Effect) -> None:
        match effect:
            case f.PublishBestEffort() | f.PublishSpooled():
                self._publish(effect)
            case f.LoadBundle() | f.StartTraining() | f.ResumeTraining():
                self._work(effect)
            case f.RenewLease():
                self._renew(effect)
            case f.StopTraining():
                self._job += 1
                self._order = None
            case f.Note(text):
                self.time.note(self.name, text)
            case f.AdoptModel():
                self._law.adopts(self, effect)
            case _:
                self._keep(effect)

    def _renew(self, effect: f.RenewLease) -> None:
        entry, content = self.disk.spool[effect.entry.task, effect.entry.base]
        renewed = UPLOAD.pack(replace(UPLOAD.unpack(content), lease=effect.lease))
        entry = replace(entry, digest=H(renewed), size=len(renewed))
        self.disk.spool[entry.task, entry.base] = entry, renewed
        self.later(0.0, lambda: self.step(e.LeaseRenewed(entry)))

    def _keep(
        self,
        effect: f.PersistTrust
        | f.StoreBlob
        | f.KeepBlobs
        | f.Spend
        | f.AdvanceBootCount
        | f.SpoolUpload
        | f.MarkAccepted
        | f.KeepProof
        | f.DeleteSpooled,
    ) -> None:
        self.time.note(self.name, type(effect).__name__)
        disk = self.disk
        match effect:
            case f.PersistTrust(trusted, manifest):
                disk.progress = trusted, manifest
            case f.StoreBlob(digest, content):
                disk.blobs[digest] = content
            case f.KeepBlobs(digests):
                kept = {key: disk.blobs[key] for key in disk.blobs if key in digests}
                disk.blobs = kept
            case f.Spend(entry):
                disk.journal.append(entry)
            case f.AdvanceBootCount(boot):
                disk.boot = boot
            case f.SpoolUpload(entry, content):
                self._law.spools(self, entry)
                disk.spool[entry.task, entry.base] = entry, content
            case f.MarkAccepted(entry):
                disk.accepted.add(entry.update)
            case f.KeepProof(entry, proof):
                disk.proofs[entry.task, entry.base] = proof
            case f.DeleteSpooled(entry):
                self._law.lets_go(self, entry)
                disk.spool.pop((entry.task, entry.base), None)
                disk.accepted.discard(entry.update)

    def _publish(self, effect: f.PublishBestEffort | f.PublishSpooled) -> None:
        if isinstance(effect, f.PublishBestEffort):
            self._law.published(self.name, effect.topic, effect.payload)
            if self.link.up:
                message = MqttMessage(effect.topic, effect.payload, effect.retain)
                self.link.publish(message)
            return
        entry, index = effect.entry, effect.index
        self._law.sends(self, entry)
        content = self.disk.spool[entry.task, entry.base][1]
        chunk = CHUNK.pack(chunk_at(content, entry.digest, index))
        topic = self.settings.topics.up(self.settings.device)
        try:
            number = self.link.publish(MqttMessage(topic, chunk))
        except TransportError:
            event = e.ChunkDelivered(entry.update, index, taken=False)
            self.later(0.0, lambda: self.step(event))
            return
        self._in_flight[number] = entry.update, index

    def _work(self, effect: f.LoadBundle | f.StartTraining | f.ResumeTraining) -> None:
        match effect:
            case f.LoadBundle(bundle):
                assert bundle in self.disk.blobs
                self._later(LOADING_S, lambda: e.BundleLoaded(bundle))
            case f.StartTraining(order, empty):
                assert {order.bundle, order.theta} <= self.disk.blobs.keys()
                self._order, self._empty = order, empty
                self._later(TRAINING_S / 10, self._tried)
            case f.ResumeTraining():
                assert self._order is not None
                self._law.draws_noise(self, self._order, empty=self._empty)
                self._later(TRAINING_S, self._trained)

    def _later(self, mean_s: float, make: Callable[[], e.Event]) -> None:
        self._job += 1
        job = self._job

        def answer() -> None:
            if job == self._job:
                self.step(make())

        self.later(self.time.about(mean_s), answer)

    def _tried(self) -> e.Event:
        if self.time.happens(self.time.weather.failure):
            return e.TrainingFailed(e.FailureStage.TRAINING, "the trainer gave up")
        return e.TrainerReady()

    def _trained(self) -> e.Event:
        order = self._order
        assert order is not None
        if self.loses:
            raise PowerCut
        self._order = None
        if self.time.happens(self.time.weather.failure):
            return e.TrainingFailed(e.FailureStage.TRAINING, "the trainer crashed")
        values = np.full(order.dimension, self.time.rng.randrange(-9, 9), np.int64)
        payload = CODECS[order.codec].encode(
            GridVector(values << 20, -24), self.time.rng.randbytes
        )
        return e.TrainingFinished(payload, self.time.rng.randbytes(ENTROPY_BYTES))


_EVENTS: dict[tuple[str, str], Callable[[bytes], e.Event]] = {
    ("d", "down"): e.DownArrived,
    ("d", "model"): e.ModelChunkArrived,
    ("t", "manifest"): e.ManifestArrived,
    ("c", "state"): e.CoordinatorStateArrived,
}
