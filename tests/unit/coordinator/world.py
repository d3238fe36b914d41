"""One coordinator core with a perfect rim, and boards that follow a script."""

import os
from dataclasses import dataclass, field

import numpy as np

from coordinator.admission import Gate
from coordinator.aggregation.fedbuff import init
from coordinator.aggregation.job import Vector, recompute
from coordinator.aggregation.strategy import (
    ModelState,
    PackedModel,
    pack_model,
    unpack_grid,
)
from coordinator.effects import (
    Aggregate,
    Effect,
    Examine,
    Publish,
    Refuse,
    StoreModel,
    StoreUpload,
)
from coordinator.events import (
    Aggregated,
    ChunkArrived,
    Event,
    Examined,
    SaidArrived,
    Ticked,
    TransactionArrived,
)
from coordinator.ledger import node
from coordinator.ledger import state as rules
from coordinator.ledger.node import LedgerSettings
from coordinator.ledger.views import Job
from coordinator.machine import Restored, begin, step
from coordinator.selection import uniform
from coordinator.state import CoordinatorState, Settings
from protocol.chunks import CHUNK, split
from protocol.envelope import ENVELOPE, Envelope, Kind, sign
from protocol.errors import Reason
from protocol.genesis import (
    FORMAT_VERSION,
    FaultModel,
    Genesis,
    Validator,
    ValidatorSet,
)
from protocol.ids import DeviceId, H, TaskId, Version, device_name
from protocol.keys import OpeningKey, SigningKey
from protocol.messages import (
    CHECK_IN,
    CONTRIBUTION,
    LEASE,
    REFUSED,
    REGISTER,
    UPLOAD,
    CheckIn,
    Contribution,
    Lease,
    Refused,
    Register,
    Upload,
)
from protocol.sealing import ENTROPY_BYTES, blob_digest, seal
from protocol.task import (
    Q15,
    Q16,
    TASK,
    AggregationPolicy,
    PrivacyPolicy,
    Strategy,
    TaskSpec,
    TrainingMode,
    TrainingPolicy,
)
from protocol.topics import Topics

DIMENSION = 4
PLEDGE = 16
KEY = SigningKey(b"k" * 32)
SEALING = OpeningKey(b"s" * 32)
OPERATOR = SigningKey(b"o" * 32)
GENESIS = Genesis(
    FORMAT_VERSION,
    "meadow",
    0,
    FaultModel.BYZANTINE,
    ValidatorSet((Validator(KEY.public, SEALING.public, "one"),)),
    (OPERATOR.public,),
    heartbeat_s=5,
)
CHAIN_ID = GENESIS.chain_id()
TOPICS = Topics("meadow")
SETTINGS = Settings(
    ledger=LedgerSettings(GENESIS, KEY, block_interval_s=0.0),
    gate=Gate(CHAIN_ID, SEALING),
    topics=TOPICS,
    selection=uniform,
    selection_seed=b"seed",
    lease_s=60,
    chunks_per_s=10.0,
    chunks_burst=20,
)
MODEL = pack_model(init(np.zeros(DIMENSION, np.int64)))


def spec(
    buffer: int = 2, leases: int = 4, staleness_max: int = 3, norm_max: int = 1 << 40
) -> TaskSpec:
    """A small task without privacy."""
    return TaskSpec(
        name="small",
        bundle=H(b"bundle"),
        bundle_bytes=6,
        dimension=DIMENSION,
        codec=0,
        initial=MODEL.digests(),
        training=TrainingPolicy(TrainingMode.GRADIENT, 1, 1, 0),
        privacy=PrivacyPolicy(0, 0, 0, 0, 0, 1),
        aggregation=AggregationPolicy(
            strategy=Strategy.FEDBUFF,
            buffer=buffer,
            learning_rate_q16=Q16,
            momentum_q16=0,
            average_q16=0,
            staleness_q15=(Q15,) * (staleness_max + 1),
            leases=leases,
            patience=3,
            norm_max=norm_max,
        ),
        pledges=(PLEDGE,),
        pool=0,
    )


@dataclass
class Board:
    """A board that does what the test says."""

    key: SigningKey
    counter: int = 0

    @property
    def device(self) -> DeviceId:
        return self.key.identity

    def sign(self, kind: Kind, body: bytes) -> Envelope:
        self.counter += 1
        return sign(self.key, CHAIN_ID, kind, self.counter, body)

    def check_in(self, version: int = 0, task: int = 0) -> bytes:
        body = CheckIn(TaskId(task), Version(version), 0, 0, 0, PLEDGE)
        return ENVELOPE.pack(self.sign(Kind.CHECK_IN, CHECK_IN.pack(body)))

    def upload(
        self,
        lease: Envelope,
        values: list[float] | None = None,
        **changes: int | bytes,
    ) -> Upload:
        """An honest upload of `values`; `changes` replace fields of its body."""
        vector = np.array(values or [1.0] * DIMENSION, "<f4")
        blob, commitment = seal(
            vector.tobytes(),
            [SEALING.public],
            os.urandom(ENTROPY_BYTES),
            self.key.public,
        )
        granted = LEASE.unpack(lease.body)
        fields: dict[str, object] = {
            "task": granted.task,
            "version": granted.version,
            "codec": 0,
            "pledge": PLEDGE,
            "mechanism": 0,
            "charge": 0,
            "blob": blob_digest(blob),
            "commitment": commitment,
        }
        body = Contribution(**{**fields, **changes})  # type: ignore[arg-type]  # the test breaks fields on purpose
        return Upload(self.sign(Kind.UPDATE, CONTRIBUTION.pack(body)), lease, blob)


def board(number: int) -> Board:
    """The board of that number."""
    return Board(SigningKey(number.to_bytes(32)))


def lease_for(device: DeviceId, version: int = 0, key: SigningKey = KEY) -> Envelope:
    """A lease as the coordinator would sign it."""
    body = Lease(device, TaskId(0), Version(version), 1, 60)
    return sign(key, CHAIN_ID, Kind.LEASE, 10**6, LEASE.pack(body))


@dataclass
class World:
    """The coordinator, its disk and what it said.

    Attributes:
      jobs: Handed out and not yet computed.
      answers: Whether bundles are said to be sound at once.
      effects: All since the start.
    """

    now_s: float = 0.0
    state: CoordinatorState = field(init=False)
    effects: list[Effect] = field(default_factory=list)
    uploads: dict[bytes, StoreUpload] = field(default_factory=dict)
    models: dict[int, PackedModel] = field(default_factory=lambda: {0: MODEL})
    jobs: list[Job] = field(default_factory=list)
    journal: list[bytes] = field(default_factory=list)
    task: TaskSpec = field(default_factory=spec)
    operator_counter: int = 0
    answers: bool = True

    def __post_init__(self) -> None:
        tree = rules.genesis_tree(GENESIS)
        ledger = node.begin(SETTINGS.ledger, None, None, tree, [], self.now_s)
        self.restore(Restored(ledger, 1, {}, {}, (), 0))

    def restore(self, restored: Restored) -> None:
        self.state, effects = begin(SETTINGS, restored, self.now_s, 0)
        self._carry_out(effects)

    def send(self, event: Event) -> tuple[Effect, ...]:
        """Lets the coordinator take one event; returns what it did."""
        self.state, effects = step(SETTINGS, self.state, event, self.now_s, 0)
        self._carry_out(effects)
        return effects

    def tick(self, seconds: float = 0.1) -> tuple[Effect, ...]:
        self.now_s += seconds
        return self.send(Ticked())

    def operate(self, kind: Kind, body: bytes) -> None:
        """Puts an operator's transaction through the inbox into a block."""
        self.operator_counter += 1
        envelope = sign(OPERATOR, CHAIN_ID, kind, self.operator_counter, body)
        name = f"{self.operator_counter}.tx"
        self.send(TransactionArrived(name, ENVELOPE.pack(envelope)))
        self.tick()

    def open(self, boards: list[Board]) -> None:
        """Admits boards and publishes the task."""
        for each in boards:
            self.operate(Kind.REGISTER, REGISTER.pack(Register(each.key.public)))
        self.operate(Kind.TASK, TASK.pack(self.task))

    def check_in(self, board: Board, version: int = 0) -> Envelope | None:
        """The lease that a check-in is answered with, if any."""
        effects = self.send(SaidArrived(board.device, board.check_in(version)))
        leases = [e for e in told(effects, board.device) if e.kind == Kind.LEASE]
        return leases[-1] if leases else None

    def upload(self, board: Board, upload: Upload) -> tuple[Effect, ...]:
        """Sends an upload in its chunks; what the last chunk did."""
        effects: tuple[Effect, ...] = ()
        for chunk in split(UPLOAD.pack(upload)):
            effects = self.send(ChunkArrived(board.device, CHUNK.pack(chunk)))
        return effects

    def contribute(
        self, board: Board, values: list[float], version: int = 0
    ) -> tuple[Effect, ...]:
        """Check-in, lease, upload."""
        lease = self.check_in(board, version)
        assert lease is not None
        return self.upload(board, board.upload(lease, values))

    def compute(self) -> None:
        """Computes all jobs that are handed out, and lets the chain go on."""
        while self.jobs:
            job = self.jobs.pop(0)
            before = self.models[job.version - 1]
            model = recompute(
                SEALING,
                self.task,
                job,
                ModelState(
                    unpack_grid(before.theta),
                    unpack_grid(before.momentum),
                    unpack_grid(before.average),
                ),
                lambda member: Vector(
                    self.uploads[member.transaction].update,
                    self.uploads[member.transaction].blob,
                ),
            )
            self.send(Aggregated(job.task, job.version, model))
            self.tick()

    def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        self.effects += effects
        for effect in effects:
            match effect:
                case StoreUpload():
                    self.uploads[effect.transaction] = effect
                case StoreModel():
                    self.models[effect.version] = effect.model
                case Examine(bundle) if self.answers:
                    size, width = self.task.bundle_bytes, self.task.dimension
                    self.send(Examined(bundle, dimension=width, size=size))
                case Aggregate():
                    self.jobs.append(effect.job)
                case node.JournalVote(payload):
                    self.journal.append(payload)
                case _:
                    pass


def told(effects: tuple[Effect, ...], device: DeviceId) -> list[Envelope]:
    """The envelopes that a board was sent."""
    topic = TOPICS.down(device_name(device))
    return [
        ENVELOPE.unpack(effect.payload)
        for effect in effects
        if isinstance(effect, Publish) and effect.topic == topic
    ]


def counted(effects: tuple[Effect, ...], device: DeviceId) -> list[Reason]:
    """What was refused in silence: counted, and nothing was sent."""
    assert not told(effects, device)
    return [effect.reason for effect in effects if isinstance(effect, Refuse)]


def refusals(effects: tuple[Effect, ...], device: DeviceId) -> list[Refused]:
    """The refusals that a board was sent; each one is counted, too."""
    found = [e for e in told(effects, device) if e.kind == Kind.REFUSED]
    assert len(found) == sum(isinstance(effect, Refuse) for effect in effects)
    return [REFUSED.unpack(envelope.body) for envelope in found]
