"""A coordinator whose world is memory: its core, and its effects carried out."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from starling.coordinator import machine
from starling.coordinator.aggregation.strategy import (
    ModelState,
    PackedModel,
    unpack_model,
)
from starling.coordinator.aggregation.version_computation import StoredVector, recompute
from starling.coordinator.availability.bundle_examination import examined
from starling.coordinator.chain.execution.state_machine import genesis_tree
from starling.coordinator.chain.node import node
from starling.coordinator.chain.state import task_records
from starling.coordinator.chain.state.task_records import JobMember
from starling.coordinator.chain.storage.block_rows import BlockRow, pack_body
from starling.coordinator.chain.verification.chain_replay import (
    CheckedBlock,
    check_rows,
)
from starling.coordinator.leases.client_selection import SELECTIONS
from starling.coordinator.publication.task_settings import TaskPublication
from starling.coordinator.step import effects as e
from starling.coordinator.step import events as c
from starling.coordinator.step.state import CoordinatorSettings, CoordinatorState
from starling.coordinator.update.admission_checks import AdmissionContext
from starling.fleet.virtual.event_queue import EventQueue
from starling.fleet.virtual.workload import Score, Workload
from starling.protocol.chain.blocks import CERTIFICATE, HEADER, Block, Certificate
from starling.protocol.chain.genesis import Genesis, Validator, ValidatorSet
from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.errors import AggregationError
from starling.protocol.ids import DeviceId, Digest, TaskId, Version, device_name
from starling.protocol.learning.task import TASK
from starling.protocol.learning.vector_codecs import Draw
from starling.protocol.wire.chunks import CHUNK, chunk_at
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register
from starling.protocol.wire.topics import Topics

BLOCK_INTERVAL_S = 0.05
LEASE_S = 3600
HEARTBEAT_S = 60
_CHUNKS_PER_S = 1e4
_NEVER_S = float("inf")
_WHOLES_KEPT = 256
Send = Callable[[str, bytes, bool], None]
"""Publishes to a topic: payload, and whether it is retained."""


@dataclass
class VersionRecord:
    """Facts about a final version.

    Attributes:
      version: Which one.
      at_s: Virtual time at which it became final.
      updates: How many made it.
      staleness_milli: Their mean staleness, in thousandths.
      charge_max: Largest total charge of a board by then.
      score: Accuracy and loss, once they are known.
    """

    version: Version
    at_s: float
    updates: int
    staleness_milli: int
    charge_max: int
    score: tuple[float | None, float] | None = None


@dataclass
class CoordinatorKeys:
    """Of the coordinator and of the operator, who share a process here."""

    validator: SigningKey
    opening: OpeningKey
    operator: SigningKey

    @classmethod
    def make(cls, draw: Draw) -> "CoordinatorKeys":
        """Draws them."""
        return cls(SigningKey(draw(32)), OpeningKey(draw(32)), SigningKey(draw(32)))

    def genesis(self, fleet: str) -> Genesis:
        """A chain with this one validator and this one operator."""
        validator = Validator(self.validator.public, self.opening.public, "virtual")
        members = ValidatorSet((validator,))
        return Genesis(1, fleet, 0, 0, members, (self.operator.public,), HEARTBEAT_S)


@dataclass
class VirtualCoordinator:
    """One virtual coordinator.

    Attributes:
      keys: Of it and of the operator.
      genesis: Of its chain.
      agenda: Virtual time.
      labour: Evaluates.
      send: Publishes.
      draw: Random bytes.
      on_version: Called when a version has become final.
      wholes: Stored bytes by digest: the bundle and the latest models.
      accepted: Updates accepted, by board.
      refused: Refusals by board and reason.
      versions: Final ones, rising.
      chain: All blocks.
    """

    keys: CoordinatorKeys
    genesis: Genesis
    agenda: EventQueue
    labour: Workload
    send: Send
    draw: Draw
    on_version: Callable[[], None]
    wholes: dict[Digest, bytes] = field(default_factory=dict)
    accepted: Counter[DeviceId] = field(default_factory=Counter)
    refused: dict[DeviceId | None, Counter[str]] = field(default_factory=dict)
    versions: list[VersionRecord] = field(default_factory=list)
    chain: list[tuple[Block, Certificate]] = field(default_factory=list)
    settings: CoordinatorSettings = field(init=False)
    state: CoordinatorState = field(init=False)
    _uploads: dict[Digest, StoredVector] = field(default_factory=dict)
    _model: ModelState | None = None
    _awaited: tuple[VersionRecord, Score] | None = None
    _kept: list[Digest] = field(default_factory=list)
    _counter: int = 0
    _alarm_s: float = _NEVER_S

    def __post_init__(self) -> None:
        """Begins a chain."""
        chain_id = self.genesis.chain_id()
        ledger_settings = node.ChainSettings(
            self.genesis, self.keys.validator, block_interval_s=BLOCK_INTERVAL_S
        )
        self.settings = CoordinatorSettings(
            ledger=ledger_settings,
            gate=AdmissionContext(chain_id, self.keys.opening),
            topics=Topics(self.genesis.fleet),
            selection=SELECTIONS["uniform"],
            selection_seed=self.draw(32),
            lease_s=LEASE_S,
            chunks_per_s=_CHUNKS_PER_S,
            chunks_burst=int(_CHUNKS_PER_S),
        )
        tree = genesis_tree(self.genesis)
        ledger = node.begin(ledger_settings, None, None, tree, (), 0.0)
        restored = machine.RestoredState(ledger, 1, {}, {}, (), 0)
        self.state, effects = machine.begin(self.settings, restored, 0.0, 0)
        self._carry_out(effects)
        self.step(c.BusConnected())

    @property
    def head(self) -> int:
        """Newest final version of the one task."""
        return self.versions[-1].version if self.versions else 0

    def register(self, device: SigningKey) -> None:
        """Has the operator admit a board."""
        self._operate(MessageKind.REGISTER, REGISTER.pack(Register(device.public)))

    def publish(self, task: TaskPublication) -> None:
        """Has the operator publish the task."""
        self.wholes[task.spec.bundle] = task.bundle
        self._keep(task.model)
        self._model = _unpacked(task.model)
        self._operate(MessageKind.TASK, TASK.pack(task.spec))

    def _operate(self, kind: MessageKind, body: bytes) -> None:
        self._counter += 1
        key, chain_id = self.keys.operator, self.settings.gate.chain_id
        content = ENVELOPE.pack(sign(key, chain_id, kind, self._counter, body))
        self.step(c.TransactionArrived(f"{self._counter}.tx", content))

    def step(self, event: c.Event) -> None:
        """Lets the core take an event and does what it asks."""
        now_s = self.agenda.now_s
        now_ms = int(1000 * now_s)
        self.state, effects = machine.step(
            self.settings, self.state, event, now_s, now_ms
        )
        self._carry_out(effects)
        for asked in [each for each in effects if isinstance(each, e.ExamineBundle)]:
            self.step(examined(asked.bundle, self.wholes[asked.bundle]))
        self._set_alarm()

    def verify(self) -> bool:
        """True if the whole chain is valid when it is checked from its genesis."""
        rows = [
            BlockRow(
                block.header.height,
                HEADER.pack(block.header),
                pack_body(block.transactions),
                CERTIFICATE.pack(certificate),
            )
            for block, certificate in self.chain
        ]
        found = list(check_rows(self.genesis, rows))
        return len(found) == len(rows) and isinstance(found[-1], CheckedBlock)

    def finish(self) -> None:
        """Waits for the last evaluation."""
        if self._awaited is not None:
            record, score = self._awaited
            record.score = score()
            self._awaited = None

    def _set_alarm(self) -> None:
        wake_at_s = self.state.wake_at_s
        if wake_at_s < self._alarm_s:
            self._alarm_s = wake_at_s
            self.agenda.at(wake_at_s, lambda: self._ring(wake_at_s))

    def _ring(self, set_for_s: float) -> None:
        if set_for_s == self._alarm_s:
            self._alarm_s = _NEVER_S
            self.step(c.ClockTicked())

    def _carry_out(self, effects: tuple[e.Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case e.SendMessage(topic, payload, retain):
                    self.send(topic, payload, retain)
                case e.PublishChunks() | e.PublishFinality():
                    self._answer(effect)
                case e.StoreUpload(transaction, update, blob):
                    self._uploads[transaction] = StoredVector(update, blob)
                case e.StoreModel(_, _, model):
                    self._keep(model)
                    self._model = _unpacked(model)
                case e.RecordAcceptance(device):
                    self.accepted[device] += 1
                case e.RecordRefusal(device, reason, _):
                    self.refused.setdefault(device, Counter())[reason.name] += 1
                case _:
                    self._carry_out_version(effect)

    def _carry_out_version(self, effect: e.Effect) -> None:
        match effect:
            case node.StoreBlock(block, certificate):
                self.chain.append((block, certificate))
            case e.StoreVersion(_, version, updates, staleness_milli, charge_max):
                at_s = self.agenda.now_s
                self.versions.append(
                    VersionRecord(version, at_s, updates, staleness_milli, charge_max)
                )
                self.on_version()
            case e.ComputeVersion(task, version, job):
                self._aggregate(task, version, job)
            case e.EvaluateVersion(_, _, inference):
                self.finish()
                score = self.labour.evaluate(self.wholes[inference])
                self._awaited = (self.versions[-1], score)
            case _:
                # A single coordinator has nobody to gossip with, and memory needs
                # neither a vote journal nor an inbox.
                pass

    def _answer(self, effect: e.PublishChunks | e.PublishFinality) -> None:
        match effect:
            case e.PublishChunks(device, digest, indices):
                topic = self.settings.topics.model(device_name(device))
                whole = self.wholes[digest]
                for index in indices:
                    self.send(topic, CHUNK.pack(chunk_at(whole, digest, index)), False)
            case e.PublishFinality():
                # The link loses nothing, so that no board asks again.
                pass
            case _:
                assert_never(effect)

    def _aggregate(
        self, task: TaskId, version: Version, job: task_records.AggregationJob
    ) -> None:
        spec = task_records.task(self.state.ledger.tree, task)
        assert spec is not None
        assert self._model is not None

        def fetch(member: JobMember) -> StoredVector:
            return self._uploads[member.transaction]

        event: c.Event
        try:
            model = recompute(self.keys.opening, spec, job, self._model, fetch)
            event = c.VersionComputed(task, version, model)
            for member in job.members:
                del self._uploads[member.transaction]
        except AggregationError as error:
            event = c.ComputationFailed(task, version, str(error))
        self.agenda.soon(lambda: self.step(event))

    def _keep(self, model: PackedModel) -> None:
        digests = model.digests()
        self.wholes[digests.training] = model.training
        self.wholes[digests.inference] = model.inference
        self._kept += [digests.training, digests.inference]
        for digest in self._kept[:-_WHOLES_KEPT]:
            self.wholes.pop(digest, None)
        del self._kept[:-_WHOLES_KEPT]


def _unpacked(model: PackedModel) -> ModelState:
    return unpack_model(model.theta, model.momentum, model.average)
