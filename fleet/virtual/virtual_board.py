"""A board whose world is memory: the agent's core, and its effects carried out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from starling.agent import machine
from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.round.readiness import phase
from starling.agent.step import effects as do
from starling.agent.step import events as happened
from starling.agent.step.state import AgentSettings, AgentState
from starling.fleet.virtual.event_queue import EventQueue
from starling.fleet.virtual.workload import Result, Workload
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.crypto.sealed_blob import ENTROPY_BYTES
from starling.protocol.errors import FederationError, Reason
from starling.protocol.ids import Digest
from starling.protocol.learning.vector_codecs import Draw
from starling.protocol.wire.chunks import CHUNK, chunk_at
from starling.protocol.wire.message_bodies import DevicePhase


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

    def publish(
        self, board: "VirtualBoard", effect: do.PublishBestEffort | bytes
    ) -> None:
        """Takes a message of a board; bytes are a chunk of an upload."""

    def settled(self, board: "VirtualBoard") -> None:
        """A board has carried out everything and waits."""


@dataclass
class VirtualBoard:
    """One virtual board.

    Attributes:
      number: Its place in the fleet.
      settings: Of its agent.
      state: Of its agent.
      duration_s: How long it trains, in virtual time.
      bytes_up: What it published.
      bytes_down: What it received.
      trained: How many updates it made.
      failed: How many trainings came to nothing.
      failure: Why the last of them did; empty without one.
    """

    number: int
    settings: AgentSettings
    sea: BoardEnvironment
    trusted: TrustedState
    duration_s: Callable[[], float]
    state: AgentState = field(init=False)
    bytes_up: int = 0
    bytes_down: int = 0
    trained: int = 0
    failed: int = 0
    failure: str = ""
    _spool: dict[Digest, bytes] = field(default_factory=dict)
    _alarm_s: float = float("inf")

    def __post_init__(self) -> None:
        """Begins with an empty disk."""
        ledger = PrivacyLedger(None, {})
        self.state, effects = machine.begin(
            self.settings, self.trusted, ledger, frozenset(), (), None, 0.0
        )
        self._carry_out(effects)
        self.step(happened.BrokerConnected())

    @property
    def name(self) -> str:
        """In topics and reports."""
        return self.settings.device

    @property
    def phase(self) -> DevicePhase:
        """Phase that the board would publish."""
        return phase(self.settings, self.state, self.sea.agenda.now_s)

    @property
    def turned_away(self) -> bool:
        """True if coordinators give it no lease for now, whatever it does."""
        answer = self.state.answers.refusal
        return answer is not None and answer.reason == Reason.QUARANTINED

    def hear(self, payload: bytes, event: happened.Event) -> None:
        """Takes a message from the link."""
        self.bytes_down += len(payload)
        self.step(event)

    def step(self, event: happened.Event) -> None:
        """Lets the core take an event and does what it asks."""
        now_s = self.sea.agenda.now_s
        self.state, effects = machine.step(self.settings, self.state, event, now_s)
        self._carry_out(effects)
        self._set_alarm()
        self.sea.settled(self)

    def _set_alarm(self) -> None:
        wake_at_s = self.state.wake_at_s
        if wake_at_s < self._alarm_s:
            self._alarm_s = wake_at_s
            self.sea.agenda.at(wake_at_s, lambda: self._ring(wake_at_s))

    def _ring(self, set_for_s: float) -> None:
        if set_for_s != self._alarm_s:
            return
        self._alarm_s = float("inf")
        if self.state.wake_at_s <= self.sea.agenda.now_s:
            self.step(happened.WakeTimeReached())
        else:
            self._set_alarm()

    def _carry_out(self, effects: tuple[do.Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case do.PublishBestEffort(_, payload):
                    self.bytes_up += len(payload)
                    self.sea.publish(self, effect)
                case do.PublishSpooled(entry, index):
                    self._publish_spooled(entry, index)
                case do.SpoolUpload(entry, content):
                    self._spool[entry.update] = content
                case do.DeleteSpooled(entry):
                    self._spool.pop(entry.update, None)
                case do.LoadBundle(bundle):
                    self._soon(happened.BundleLoaded(bundle))
                case do.StartTraining():
                    self._train(effect)
                case do.ResumeTraining() | do.StopTraining() | do.Spend():
                    # The core holds the ledger; the draft below waits for its go.
                    pass
                case (
                    do.PersistTrust()
                    | do.StoreBlob()
                    | do.KeepBlobs()
                    | do.AdoptModel()
                    | do.MarkAccepted()
                    | do.KeepProof()
                    | do.RenewLease()
                    | do.AdvanceBootCount()
                    | do.Note()
                ):
                    pass
                case _:
                    assert_never(effect)

    def _soon(self, event: happened.Event) -> None:
        self.sea.agenda.soon(lambda: self.step(event))

    def _publish_spooled(self, entry: do.SpoolEntry, index: int) -> None:
        content = self._spool[entry.update]
        payload = CHUNK.pack(chunk_at(content, entry.digest, index))
        self.bytes_up += len(payload)
        self.sea.publish(self, payload)
        self._soon(happened.ChunkDelivered(entry.update, index, taken=True))

    def _train(self, effect: do.StartTraining) -> None:
        """Begins the work now, and has its result when its virtual time is over.

        The worker draws noise before the core has paid. That is no leak: the result
        reaches the core only once its charge stands in the ledger.
        """
        order = effect.order
        theta = self.sea.blobs[order.theta]
        result = self.sea.labour.train(self.number, order, theta)
        done_s = self.sea.agenda.now_s + self.duration_s()

        def ready() -> None:
            training = self.state.training
            if training is None or training.order is not order:
                return
            self.step(happened.TrainerReady())
            if self.state.training is not None and self.state.training.spent:
                self.trained += 1
                self.step(self._ended(result))

        self.sea.agenda.at(done_s, ready)

    def _ended(self, result: Result) -> happened.Event:
        """One board that cannot train is that board's business, not the fleet's."""
        try:
            payload = result()
        except FederationError as error:
            self.failed += 1
            self.failure = str(error)
            stage = happened.FailureStage.TRAINING
            return happened.TrainingFailed(stage, self.failure)
        return happened.TrainingFinished(payload, self.sea.draw(ENTROPY_BYTES))
