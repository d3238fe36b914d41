"""One step while it is being taken: the state so far and the effects so far.

The only mutable thing of the core; it never outlives `machine.step`.
"""

from functools import lru_cache

from starling.coordinator.step.board_session import BoardSession
from starling.coordinator.step.effects import Effect, LogLine, SendMessage
from starling.coordinator.step.state import (
    CoordinatorSettings,
    CoordinatorState,
    TaskState,
)
from starling.protocol.errors import Reason, SignatureError
from starling.protocol.ids import DeviceId, device_name
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.topics import Topics

RETRY_AFTER_S = {
    Reason.BUSY: 5,
    Reason.INCOMPLETE: 5,
    Reason.NO_LEASE: 30,
    # The operator's transaction may still be on its way into a block.
    Reason.NOT_ENROLLED: 10,
    Reason.UNKNOWN_TASK: 10,
}
"""When it makes sense to try again; for all other reasons never."""
_NEW_SESSION = BoardSession()


class CoordinatorStep:
    """A step in the making; its attributes are the fields of `CoordinatorState`.

    Attributes:
      settings: Constant.
      now_s: Monotonic.
      now_ms: Unix time, for the chain's display times only.
      effects: So far, in order.
      speaker: The coordinator whose message is taken; None if it is something else.
      broker: Over which broker it came; 0 is ours.
    """

    def __init__(
        self,
        settings: CoordinatorSettings,
        state: CoordinatorState,
        now_s: float,
        now_ms: int,
    ) -> None:
        """Starts from a state, which is not changed."""
        self.settings = settings
        self.now_s = now_s
        self.now_ms = now_ms
        self.effects: list[Effect] = []
        self.ledger = state.ledger
        self.counter = state.counter
        self.tasks = state.tasks
        self.sessions = state.sessions
        self.held = state.held
        self.inbox = state.inbox
        self.charge_max = state.charge_max
        self.connected = state.connected
        self.since_s = state.since_s
        self.speaker: DeviceId | None = None
        self.broker = 0
        self.pace = state.pace
        self.diverged = state.diverged
        self.peers = state.peers
        self.wanted = state.wanted
        self.parked = state.parked
        self.restoring = state.restoring
        self.repeat_at_s = state.repeat_at_s
        self.repeat_below = state.repeat_below
        self.announce_at_s = state.announce_at_s
        self.handovers = state.handovers
        self.rounds = state.rounds
        self.finalities_s = state.finalities_s
        self.keys = state.keys
        self.ask_at_s = state.ask_at_s
        self.uploads_wait = state.uploads_wait
        self.left = state.left
        self.left_at_s = state.left_at_s
        self.bundles = state.bundles
        self.wants_dropped = state.wants_dropped
        self.pulling = state.pulling
        self.pull_bytes = state.pull_bytes
        self.pull_at_s = state.pull_at_s
        self.allowances = state.allowances
        self.tasks_held = state.tasks_held

    def state(self) -> CoordinatorState:
        """The state after the step."""
        wake_at_s = min(self.now_s + self.settings.tick_s, self.ledger.wake_at_s)
        for task in self.tasks.values():
            wake_at_s = min(wake_at_s, task.leases.wake_at_s, task.retry_at_s)
        wake_at_s = min(wake_at_s, self.ask_at_s, self.left_at_s)
        for from_s, _ in self.tasks_held:
            wake_at_s = min(wake_at_s, from_s)
        return CoordinatorState(
            self.ledger,
            self.counter,
            self.tasks,
            self.sessions,
            self.held,
            self.inbox,
            self.charge_max,
            self.connected,
            self.since_s,
            self.pace,
            self.diverged,
            self.peers,
            self.wanted,
            self.parked,
            self.repeat_at_s,
            self.repeat_below,
            self.announce_at_s,
            self.handovers,
            self.rounds,
            self.finalities_s,
            self.keys,
            self.restoring,
            self.ask_at_s,
            self.uploads_wait,
            self.left,
            self.left_at_s,
            self.wants_dropped,
            self.pulling,
            self.pull_bytes,
            self.pull_at_s,
            self.allowances,
            self.tasks_held,
            wake_at_s,
            self.bundles,
        )

    def emit(self, effect: Effect) -> None:
        """Appends an effect."""
        self.effects.append(effect)

    def session(self, device: DeviceId) -> BoardSession:
        """A board's session; a fresh one if there is none."""
        return self.sessions.get(device) or _NEW_SESSION

    def put_session(self, device: DeviceId, session: BoardSession) -> None:
        """Keeps a board's session."""
        self.sessions = self.sessions.put(device, session)

    def put_task(self, task: TaskState) -> None:
        """Keeps a task's state."""
        self.tasks = {**self.tasks, task.number: task}

    def sign(self, kind: MessageKind, body: bytes) -> Envelope:
        """Signs a message with the next counter."""
        key, chain_id = self.settings.ledger.key, self.settings.gate.chain_id
        return sign(key, chain_id, kind, self.take_counter(), body)

    def take_counter(self) -> int:
        """The next counter of our envelopes; nobody else gets it."""
        self.counter += 1
        return self.counter - 1

    def tell(self, device: DeviceId, kind: MessageKind, body: bytes) -> None:
        """Sends a signed message to one board."""
        self.send(device, self.sign(kind, body))

    def send(self, device: DeviceId, envelope: Envelope) -> None:
        """Sends an envelope to one board."""
        topic = _down(self.settings.topics, device)
        self.emit(SendMessage(topic, ENVELOPE.pack(envelope)))

    def is_genuine(self, envelope: Envelope) -> bool:
        """Whether its sender signed an envelope for this chain."""
        try:
            envelope.check(self.settings.gate.chain_id)
        except SignatureError:
            return False
        return True

    def report(self, text: str, grave: bool = False) -> None:
        """Logs a line for people."""
        self.emit(LogLine(text, grave))


@lru_cache(maxsize=1 << 14)
def _down(topics: Topics, device: DeviceId) -> str:
    return topics.down(device_name(device))
