"""Four coordinator cores over a bus in memory, each with a store and a publisher."""

import os
import queue
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import numpy as np

from broker.events import Message
from coordinator import machine
from coordinator.admission import Gate
from coordinator.aggregation.strategy import PackedModel
from coordinator.duty import SILENT_AFTER_STATUSES
from coordinator.effects import (
    AdoptSnapshot,
    Aggregate,
    Effect,
    Examine,
    Give,
    GiveKey,
    Publish,
    PublishChunks,
    PublishFinal,
    Recall,
    Refuse,
    Report,
    Secure,
    Tell,
)
from coordinator.events import (
    Aggregated,
    ChunkArrived,
    Connected,
    Event,
    Examined,
    PeerArrived,
    Recalled,
    SaidArrived,
    Secured,
    Ticked,
    TransactionArrived,
)
from coordinator.ledger.memory import MemoryStore
from coordinator.ledger.node import Gossip, JournalVote, LedgerSettings
from coordinator.ledger.rounds import Timeouts
from coordinator.rim.outgoing import Outgoing
from coordinator.rim.persistence import Persistence
from coordinator.rim.publishing import Publisher, address
from coordinator.rim.start import restore
from coordinator.rim.tally import Tally
from coordinator.rim.wholes import update_of
from coordinator.rim.workers import Workers
from coordinator.selection import uniform
from coordinator.state import CoordinatorState, Settings
from protocol.chunks import CHUNK, split
from protocol.envelope import ENVELOPE, Envelope, Kind, sign
from protocol.genesis import (
    FORMAT_VERSION,
    FaultModel,
    Genesis,
    Validator,
    ValidatorSet,
)
from protocol.ids import DeviceId, Digest, TaskId, Version, device_name
from protocol.keys import OpeningKey, SigningKey
from protocol.messages import (
    CHECK_IN,
    CONTRIBUTION,
    LEASE,
    REGISTER,
    UPLOAD,
    CheckIn,
    Contribution,
    Register,
    Upload,
)
from protocol.sealing import ENTROPY_BYTES, SEALED, blob_digest, seal
from protocol.task import TASK, TaskSpec
from protocol.topics import Topics
from tests.unit.coordinator.world import DIMENSION, MODEL, OPERATOR, PLEDGE, spec

COUNT = 4
TICK_S = 0.05
WORK_TIMEOUT_S = 20.0
TOPICS = Topics("meadow")
KEYS = sorted(
    (SigningKey(bytes([number]) * 32) for number in range(1, COUNT + 1)),
    key=lambda key: key.public,
)
OPENING = [OpeningKey(bytes([100 + number]) * 32) for number in range(COUNT)]
GENESIS = Genesis(
    FORMAT_VERSION,
    "meadow",
    0,
    FaultModel.BYZANTINE,
    ValidatorSet(
        tuple(
            Validator(key.public, opening.public, f"member {number}")
            for number, (key, opening) in enumerate(zip(KEYS, OPENING, strict=True))
        )
    ),
    (OPERATOR.public,),
    heartbeat_s=60,
)
CHAIN_ID = GENESIS.chain_id()


class Votes:
    """A journal that lasts as long as the test."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []

    def append(self, votes: list[JournalVote], height: int) -> None:
        del height
        self.entries += [vote.payload for vote in votes]


def _sound(bundle: Digest, content: bytes | None) -> Examined:
    if content is None:
        return Examined(bundle, absent=True)
    return Examined(bundle, dimension=DIMENSION, size=len(content))


@dataclass
class Member:
    """One coordinator: a core, its memory, and what it was told to do.

    Attributes:
      sent: Messages that wait for the bus.
      effects: All since its last start.
      falsify: What it makes of a model that it computed.
      examine: What it says of a task's bundle; the one here is none.
      slow: Whether what it computes waits in `late` for the test to hand it over.
    """

    index: int
    sent: deque[Message] = field(default_factory=deque)
    effects: list[Effect] = field(default_factory=list)
    falsify: Callable[[PackedModel], PackedModel] = lambda model: model
    slow: bool = False
    late: list[Event] = field(default_factory=list)
    examine: Callable[[Digest, bytes | None], Examined] = _sound
    up: bool = True
    store: MemoryStore = field(default_factory=lambda: MemoryStore(GENESIS))
    votes: Votes = field(default_factory=Votes)
    boots: int = 0
    published: int = 0
    answered: int = 0
    state: CoordinatorState = field(init=False)

    def __post_init__(self) -> None:
        ledger = LedgerSettings(
            GENESIS,
            KEYS[self.index],
            block_interval_s=0.0,
            timeouts=Timeouts(0.5, 0.2, 0.2),
        )
        self.settings = Settings(
            ledger=ledger,
            gate=Gate(CHAIN_ID, OPENING[self.index]),
            topics=TOPICS,
            selection=uniform,
            selection_seed=b"seed",
            lease_s=60,
            chunks_per_s=100.0,
            chunks_burst=200,
        )
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.workers = Workers(
            self.store, OPENING[self.index], None, self.events.put, self._failed
        )

    def begin(self, now_s: float) -> None:
        """Starts, again or for the first time, from what was stored."""
        self.up, self.boots = True, self.boots + 1
        self.published = self.answered = 0
        self.sent.clear()
        self.outgoing = Outgoing(self._publish)
        self.publisher = Publisher(self.settings, self.store, self.outgoing, Tally(0))
        votes = tuple(self.votes.entries)
        restored = restore(self.settings, self.store, votes, self.boots << 32, now_s)
        height = restored.ledger.height
        self.persistence = Persistence(self.store, self.votes, height, 20)  # type: ignore[arg-type]  # a list is a sequence
        self.effects.clear()
        self.state, effects = machine.begin(self.settings, restored, now_s, 0)
        self.carry_out(effects)
        self.step(Connected(), now_s)

    def step(self, event: Event, now_s: float) -> tuple[Effect, ...]:
        """Lets the core take an event and does what it asks."""
        self.state, effects = machine.step(self.settings, self.state, event, now_s, 0)
        self.carry_out(effects)
        if any(isinstance(effect, AdoptSnapshot) for effect in effects):
            self.begin(now_s)
        return effects

    def carry_out(self, effects: tuple[Effect, ...]) -> None:
        """Stores, then says, then works."""
        self.effects += effects
        self.persistence.commit(effects, 0)
        for effect in effects:
            match effect:
                case (
                    Publish()
                    | PublishChunks()
                    | PublishFinal()
                    | Gossip()
                    | Tell()
                    | Give()
                    | GiveKey()
                ):
                    self.publisher.say(effect)
                case Secure(task, digests):
                    absent = [d for d in digests if self.store.blob(d) is None]
                    self.events.put(Secured(task, tuple(absent)))
                case Examine(bundle):
                    self.events.put(self.examine(bundle, self.store.blob(bundle)))
                case Recall(known, other):
                    self.events.put(Recalled(update_of(self.store, known), other))
                case Aggregate():
                    self._aggregate(effect)
                case _:
                    pass
        self.outgoing.pump()

    def reports(self) -> list[str]:
        return [e.text for e in self.effects if isinstance(e, Report)]

    def refusals(self) -> list[str]:
        return [e.reason.name for e in self.effects if isinstance(e, Refuse)]

    def _aggregate(self, asked: Aggregate) -> None:
        self.workers.aggregate(asked, self.state.tasks[asked.task].spec)
        event = self.events.get(timeout=WORK_TIMEOUT_S)
        if isinstance(event, Aggregated):
            event = replace(event, model=self.falsify(event.model))
        if self.slow:
            self.late.append(event)
        else:
            self.events.put(event)

    def hand_over(self) -> None:
        """Lets the core have what it computed late."""
        self.slow = False
        while self.late:
            self.events.put(self.late.pop(0))

    def answer_next(self) -> None:
        """The broker answers the next message that it was handed."""
        self.answered += 1
        self.outgoing.delivered(self.answered)

    def _publish(self, message: Message) -> int:
        self.sent.append(message)
        self.published += 1
        return self.published

    def _failed(self, error: BaseException) -> None:
        raise error


@dataclass
class Voter:
    """A board that does what the test says."""

    key: SigningKey
    counter: int = 0

    @property
    def device(self) -> DeviceId:
        return self.key.identity

    def sign(self, kind: Kind, body: bytes) -> Envelope:
        self.counter += 1
        return sign(self.key, CHAIN_ID, kind, self.counter, body)

    def check_in(self, version: int) -> bytes:
        body = CheckIn(TaskId(0), Version(version), 0, 0, 0, PLEDGE)
        return ENVELOPE.pack(self.sign(Kind.CHECK_IN, CHECK_IN.pack(body)))

    def upload(
        self,
        lease: Envelope,
        recipients: tuple[int, ...] = tuple(range(COUNT)),
        closed: Collection[int] = (),
    ) -> Upload:
        """An upload for some coordinators; the boxes of some hold nothing."""
        granted = LEASE.unpack(lease.body)
        blob, commitment = seal(
            np.ones(4, "<f4").tobytes(),
            [OPENING[index].public for index in recipients],
            os.urandom(ENTROPY_BYTES),
            self.key.public,
        )
        sealed = SEALED.unpack(blob)
        boxes = [
            box[:8] + bytes(48) if index in closed else box
            for index, box in enumerate(sealed.boxes)
        ]
        blob = SEALED.pack(replace(sealed, boxes=tuple(boxes)))
        body = Contribution(
            granted.task,
            granted.version,
            0,
            PLEDGE,
            0,
            0,
            blob_digest(blob),
            commitment,
        )
        return Upload(self.sign(Kind.UPDATE, CONTRIBUTION.pack(body)), lease, blob)


class Council:
    """Four coordinators and boards; `cut` decides which messages get lost."""

    def __init__(self, task: TaskSpec | None = None) -> None:
        self.now_s = 0.0
        self.task = task or spec(leases=16)
        self.members = [Member(index) for index in range(COUNT)]
        self.down: list[tuple[DeviceId, Envelope]] = []
        self.manifests: list[bytes] = []
        self.brokers = [0] * COUNT
        self.cut: Callable[[int, int, Message], bool] = lambda source, target, m: False
        self.counter = 0
        for member in self.members:
            member.begin(self.now_s)
        self.settle()

    def close(self) -> None:
        for member in self.members:
            member.workers.stop()

    def settle(self) -> None:
        """Delivers until nothing is under way; no time passes."""
        busy = True
        while busy:
            busy = False
            for member in self.members:
                while member.sent:
                    busy = True
                    self._deliver(member, member.sent.popleft())
                    member.answer_next()
                while not member.events.empty():
                    busy = True
                    event = member.events.get()
                    if member.up:
                        member.step(event, self.now_s)

    def run(self, seconds: float = 0.5) -> None:
        """Lets time pass."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += TICK_S
            for member in self.members:
                if member.up and self.now_s >= member.state.wake_at_s:
                    member.step(Ticked(), self.now_s)
            self.settle()

    def crash(self, *indices: int) -> None:
        """Ends some as a power cut does, and waits until the others miss them."""
        for index in indices:
            self.members[index].up = False
            self.members[index].sent.clear()
        self.run(SILENT_AFTER_STATUSES + 1.0)

    def restart(self, index: int) -> None:
        self.members[index].begin(self.now_s)
        self.settle()

    def operate(self, kind: Kind, body: bytes, through: int = 0) -> None:
        """Puts an operator's transaction into one coordinator's inbox."""
        self.counter += 1
        envelope = sign(OPERATOR, CHAIN_ID, kind, self.counter, body)
        event = TransactionArrived(f"{self.counter}.tx", ENVELOPE.pack(envelope))
        self.members[through].step(event, self.now_s)
        self.settle()
        self.run()

    def open(self, boards: list[Voter]) -> None:
        """Admits boards and publishes the task, whose bytes only member 0 has."""
        with self.members[0].store.transaction():
            for part in (b"bundle", *MODEL.parts()):
                self.members[0].store.put_blob(part)
        for each in boards:
            self.operate(Kind.REGISTER, REGISTER.pack(Register(each.key.public)))
        self.operate(Kind.TASK, TASK.pack(self.task))

    def check_in(
        self, board: Voter, version: int, to: set[int] | None = None
    ) -> list[Envelope]:
        """The leases that a check-in is answered with."""
        self.down.clear()
        self.tell_all(SaidArrived(board.device, board.check_in(version)), to)
        return [
            envelope
            for device, envelope in self.down
            if device == board.device and envelope.kind == Kind.LEASE
        ]

    def send(self, board: Voter, upload: Upload, to: set[int] | None = None) -> None:
        """Sends an upload to some coordinators, by default to all."""
        for chunk in split(UPLOAD.pack(upload)):
            self.tell_all(ChunkArrived(board.device, CHUNK.pack(chunk)), to)

    def contribute(
        self, board: Voter, version: int, to: set[int] | None = None
    ) -> None:
        (lease, *_) = self.check_in(board, version)
        self.send(board, board.upload(lease), to)

    def tell_all(self, event: Event, to: set[int] | None = None) -> None:
        for member in self.members:
            if member.up and (to is None or member.index in to):
                member.step(event, self.now_s)
        self.settle()

    def heights(self) -> list[int]:
        return [member.state.ledger.height for member in self.members]

    def heads(self) -> list[int]:
        return [member.state.tasks[TaskId(0)].head for member in self.members]

    def _deliver(self, source: Member, message: Message) -> None:
        branch, device, leaf = (
            address(TOPICS, message.topic)
            if ("/t/" not in message.topic)
            else ("t", DeviceId(b""), "")
        )
        if branch == "t":
            self.manifests.append(message.payload)
        if branch == "d" and leaf == "down":
            self.down.append((device, ENVELOPE.unpack(message.payload)))
        if branch != "g":
            return
        for target in self.members:
            heard = leaf in ("say", f"to/{target.settings.name}")
            other = heard and target.index != source.index and target.up
            if other and not self.cut(source.index, target.index, message):
                elsewhere = self.brokers[source.index] != self.brokers[target.index]
                event = PeerArrived(device, message.payload, elsewhere)
                target.step(event, self.now_s)


def voters(count: int) -> list[Voter]:
    """Boards by number."""
    return [Voter(SigningKey((1000 + n).to_bytes(32))) for n in range(count)]


def name(index: int) -> str:
    """A coordinator's name in topics."""
    return device_name(KEYS[index].identity)
