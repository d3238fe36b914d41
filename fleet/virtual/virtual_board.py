"""A board whose world is memory: the product's own loop, in virtual time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from starling.agent.loop.event_loop import AgentLoop
from starling.agent.loop.memory_store import MemoryAgentStore
from starling.agent.loop.ports import AgentItem, AgentPorts
from starling.agent.round.readiness import phase
from starling.agent.step import events as happened
from starling.agent.step.effects import Effect, StartTraining
from starling.agent.step.state import AgentSettings, AgentState
from starling.broker.link_events import (
    AckToken,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    MqttMessage,
)
from starling.fleet.virtual.event_queue import EventQueue
from starling.fleet.virtual.workload import Result, Workload
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.crypto.sealed_blob import ENTROPY_BYTES
from starling.protocol.errors import FederationError, Reason
from starling.protocol.ids import Digest
from starling.protocol.learning.vector_codecs import Draw
from starling.protocol.wire.message_bodies import DevicePhase

_PACKET_BYTES_MAX = 131_072
_NEVER_S = float("inf")


class BlobLookup(Protocol):
    """Stored bytes by digest."""

    def __getitem__(self, digest: Digest) -> bytes:
        """The bytes.

        Raises:
          KeyError: If nobody has them.
        """


class BoardEnvironment(Protocol):
    """Environment that boards share: link to the coordinators, and stored bytes."""

    @property
    def agenda(self) -> EventQueue:
        """Virtual time."""

    @property
    def labour(self) -> Workload:
        """Workload of the fleet."""

    @property
    def blobs(self) -> BlobLookup:
        """Stored bytes by digest."""

    @property
    def draw(self) -> Draw:
        """Random bytes."""

    def publish(self, board: "VirtualBoard", message: MqttMessage) -> None:
        """Takes a message of a board."""

    def settled(self, board: "VirtualBoard") -> None:
        """A board has carried out everything and waits."""


@dataclass
class VirtualBoard:
    """One virtual board; what is on its disk outlives a loss of power.

    Attributes:
      number: Its place in the fleet.
      settings: Of its agent, but for the number of starts.
      sea: What it shares with the others.
      trusted: Whom it trusts at its first start.
      duration_s: How long it trains, in virtual time.
      up: Whether it has power.
      loop: Of this start of the agent, or of the last one.
      disk: What it stores.
      trained: How many updates it made.
      failed: How many trainings came to nothing.
      failure: Why the last of them did; empty without one.
    """

    number: int
    settings: AgentSettings
    sea: BoardEnvironment
    trusted: TrustedState
    duration_s: Callable[[], float]
    up: bool = False
    loop: AgentLoop = field(init=False)
    disk: MemoryAgentStore = field(init=False)
    trained: int = 0
    failed: int = 0
    failure: str = ""
    _life: int = 0
    _alarm_s: float = _NEVER_S
    _before: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        """Starts with an empty disk."""
        self.disk = _SharedBlobs(self.sea.blobs)
        self.start()

    def start(self) -> None:
        """Starts the agent from what the disk holds; the broker takes it at once."""
        agenda = self.sea.agenda
        settings, state, effects = self.disk.start(
            self.settings, self.trusted, None, agenda.now_s
        )
        self.up, self._alarm_s = True, _NEVER_S
        ports = AgentPorts(
            lambda: agenda.now_s,
            _VirtualLink(self, settings.topics.up(settings.device)),
            self.disk,
            _VirtualTrainer(self),
            _NoMonitor(),
            self.soon,
        )
        self.loop = AgentLoop(settings, state, ports)
        self.loop.begin(effects)
        self.turn(LinkConnected(_PACKET_BYTES_MAX, False, 0))

    def lose_power(self) -> None:
        """Ends the agent at once; what is not on the disk is lost."""
        self.up = False
        # What was entered for the life before finds another number, and does nothing.
        self._life += 1
        self._before = self.bytes_up, self.bytes_down

    @property
    def state(self) -> AgentState:
        """Of its agent."""
        return self.loop.state

    @property
    def name(self) -> str:
        """In topics and reports."""
        return self.settings.device

    @property
    def phase(self) -> DevicePhase:
        """Phase that the board would publish, or that its last will says."""
        if not self.up:
            return DevicePhase.LOST
        return phase(self.loop.settings, self.state, self.sea.agenda.now_s)

    @property
    def turned_away(self) -> bool:
        """True if coordinators give it no lease for now, whatever it does."""
        answer = self.state.answers.refusal
        return answer is not None and answer.reason == Reason.QUARANTINED

    @property
    def bytes_up(self) -> int:
        """Published."""
        return self._before[0] + (self.loop.bytes_up if self.up else 0)

    @property
    def bytes_down(self) -> int:
        """Received."""
        return self._before[1] + (self.loop.bytes_down if self.up else 0)

    def turn(self, item: AgentItem) -> None:
        """Lets the loop take something."""
        self.loop.turn((item,))
        self._set_alarm()
        self.sea.settled(self)

    def soon(self, item: AgentItem) -> None:
        """Lets the loop take something after all that was entered before.

        It is lost if the board has no power then, or had none in between.
        """
        life = self._life

        def take() -> None:
            if life == self._life:
                self.turn(item)

        self.sea.agenda.soon(take)

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        """Does something at a moment, if this life lasts that long."""
        life = self._life

        def act() -> None:
            if life == self._life:
                action()

        self.sea.agenda.at(time_s, act)

    def _set_alarm(self) -> None:
        wake_at_s = self.loop.wake_at_s
        if wake_at_s < self._alarm_s:
            self._alarm_s = wake_at_s
            self.at(wake_at_s, lambda: self._ring(wake_at_s))

    def _ring(self, set_for_s: float) -> None:
        # An earlier alarm took the place of this one.
        if set_for_s != self._alarm_s:
            return
        self._alarm_s = _NEVER_S
        if self.loop.wake_at_s <= self.sea.agenda.now_s:
            self.loop.turn(())
            self._set_alarm()
            self.sea.settled(self)
        else:
            self._set_alarm()


class _SharedBlobs(MemoryAgentStore):
    """A disk that holds no second copy of what coordinators hold as well."""

    def __init__(self, shared: BlobLookup) -> None:
        """Starts empty; `shared` is what coordinators hold."""
        super().__init__()
        self._shared = shared

    def blob_piece(self, digest: Digest, start: int, length: int) -> bytes:
        """See `AgentStore`; nothing of what no coordinator holds any more."""
        try:
            return self._shared[digest][start : start + length]
        except KeyError:
            return b""

    def put_blob(self, digest: Digest, content: bytes) -> None:
        del content
        self.blobs[digest] = b""


class _VirtualLink:
    """A connection that loses nothing and is never slow."""

    def __init__(self, owner: VirtualBoard, topic_up: str) -> None:
        self._owner = owner
        self._topic_up = topic_up
        self._published = 0

    def publish(self, message: MqttMessage) -> int:
        self._published += 1
        self._owner.sea.publish(self._owner, message)
        if message.topic == self._topic_up:
            # Nobody waits for the answer to any other message.
            self._owner.soon(Delivered(self._published, 0))
        return self._published

    def acknowledge(self, token: AckToken) -> None:
        """Nothing is ever sent twice."""


class _VirtualTrainer:
    """Begins the work at once, and has its result when its virtual time is over.

    The worker draws noise before the core has paid. That is no leak: the result
    reaches the core only once its charge stands in the ledger.
    """

    def __init__(self, owner: VirtualBoard) -> None:
        self._owner = owner
        self._asked: StartTraining | None = None
        self._resumed = False

    def load(self, bundle: Digest) -> None:
        self._owner.soon(happened.BundleLoaded(bundle))

    def start(self, asked: StartTraining) -> None:
        owner, order = self._owner, asked.order
        self._asked, self._resumed = asked, False
        result = owner.sea.labour.train(
            owner.number, order, owner.sea.blobs[order.theta]
        )
        done_s = owner.sea.agenda.now_s + owner.duration_s()
        owner.at(done_s, lambda: self._done(asked, result))

    def resume(self) -> None:
        self._resumed = True

    def stop(self, why: str) -> None:
        del why
        self._asked = None

    def _done(self, asked: StartTraining, result: Result) -> None:
        # It was stopped, or asked for something else, while virtual time passed.
        if self._asked is not asked:
            return
        # The core pays now, and in its answer lets the trainer go on, or stops it.
        self._owner.turn(happened.TrainerReady())
        if self._resumed and self._asked is asked:
            self._asked = None
            self._owner.trained += 1
            self._owner.turn(self._ended(result))

    def _ended(self, result: Result) -> happened.Event:
        """One board that cannot train is that board's business, not the fleet's."""
        owner = self._owner
        try:
            payload = result()
        except FederationError as error:
            owner.failed += 1
            owner.failure = str(error)
            stage = happened.FailureStage.TRAINING
            return happened.TrainingFailed(stage, owner.failure)
        return happened.TrainingFinished(payload, owner.sea.draw(ENTROPY_BYTES))


class _NoMonitor:
    """Tells nobody anything; see `AgentMonitor`."""

    def connected(self) -> None:
        """See `AgentMonitor`."""

    def disconnected(self, event: LinkDisconnected) -> None:
        """See `AgentMonitor`."""

    def stepped(self, event: happened.Event, effects: tuple[Effect, ...]) -> None:
        """See `AgentMonitor`."""

    def note(self, text: str, *, warns: bool) -> None:
        """See `AgentMonitor`."""
