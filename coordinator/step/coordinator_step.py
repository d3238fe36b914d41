"""A step of a coordinator in progress, and what its rules share."""

from dataclasses import dataclass
from functools import lru_cache

from starling.coordinator.step.board_session import BoardSession
from starling.coordinator.step.effects import Effect, LogLine, SendMessage
from starling.coordinator.step.state import (
    CoordinatorSettings,
    CoordinatorState,
    TaskState,
)
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import SignatureError
from starling.protocol.ids import DeviceId, Digest, device_name
from starling.protocol.step import Step
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.topics import Topics

_NEW_SESSION = BoardSession()


@dataclass
class CoordinatorStep(Step[CoordinatorSettings, CoordinatorState, Effect]):
    """A step of a coordinator in progress.

    Attributes:
      now_s: Monotonic.
      now_ms: Unix time, for the chain's display times only.
      speaker: The coordinator whose message is taken; None if it is something else.
      broker: Over which broker it came; 0 is ours.
    """

    now_s: float
    now_ms: int
    speaker: DeviceId | None = None
    broker: int = 0

    def result(self) -> tuple[CoordinatorState, tuple[Effect, ...]]:
        """State after the step, with the time of the next one, and its effects."""
        state = self.state
        times = [self.now_s + self.settings.tick_s, state.ledger.wake_at_s]
        for task in state.tasks.values():
            times += (task.leases.wake_at_s, task.retry_at_s)
        times += (state.ask_at_s, state.left_at_s)
        times += (from_s for from_s, _ in state.tasks_held)
        self.state = evolve(state, wake_at_s=min(times))
        return super().result()

    def session(self, device: DeviceId) -> BoardSession:
        """A board's session; a fresh one if there is none."""
        return self.state.sessions.get(device) or _NEW_SESSION

    def put_session(self, device: DeviceId, session: BoardSession) -> None:
        """Keeps a board's session."""
        self.state = evolve(
            self.state, sessions=self.state.sessions.put(device, session)
        )

    def put_task(self, task: TaskState) -> None:
        """Keeps a task's state."""
        self.state = evolve(self.state, tasks={**self.state.tasks, task.number: task})

    def sign(self, kind: MessageKind, body: bytes) -> Envelope:
        """Signs a message with the next counter."""
        key, chain_id = self.settings.ledger.key, self.settings.gate.chain_id
        return sign(key, chain_id, kind, self.take_counter(), body)

    def take_counter(self) -> int:
        """The next counter of our envelopes; nobody else gets it."""
        self.state = evolve(self.state, counter=self.state.counter + 1)
        return self.state.counter - 1

    def sign_and_send(
        self,
        device: DeviceId,
        kind: MessageKind,
        body: bytes,
        update: Digest | None = None,
    ) -> None:
        """Sends a signed message to one board; `update` is what it proves final."""
        self.send(device, self.sign(kind, body), update)

    def send(
        self, device: DeviceId, envelope: Envelope, update: Digest | None = None
    ) -> None:
        """Sends an envelope to one board; see `tell`."""
        topic = _down(self.settings.topics, device)
        self.emit(SendMessage(topic, ENVELOPE.pack(envelope), update=update))

    def is_genuine(self, envelope: Envelope) -> bool:
        """True if its sender signed an envelope for this chain."""
        try:
            envelope.check(self.settings.gate.chain_id)
        except SignatureError:
            return False
        return True

    def report(self, text: str, grave: bool = False, *, warns: bool = False) -> None:
        """Logs a line for people."""
        self.emit(LogLine(text, grave, warns))


@lru_cache(maxsize=1 << 14)
def _down(topics: Topics, device: DeviceId) -> str:
    return topics.down(device_name(device))
