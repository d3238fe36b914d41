"""One step of the agent while it is being worked out: the state, and what to do."""

from dataclasses import dataclass

from starling.agent.step.effects import Effect, Note, PublishBestEffort
from starling.agent.step.state import AgentSettings, AgentState
from starling.protocol.backoff import backoff_s
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import SignatureError
from starling.protocol.ids import H
from starling.protocol.step import Step
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign

_SERIAL_BITS = 32


@dataclass
class AgentStep(Step[AgentSettings, AgentState, Effect]):
    """A step of an agent in progress.

    Attributes:
      now_s: Monotonic time.
    """

    now_s: float

    def note(self, text: str, *, warns: bool = False) -> None:
        """Tells the operator's log."""
        self.emit(Note(text, warns))

    def jittered(self, seconds: float) -> float:
        """The moment after a wait of 0.5 to 1.5 times `seconds` from now."""
        draws = self.state.draws + 1
        self.state = evolve(self.state, draws=draws)
        # From seed and count, since a core draws no random numbers: the same events
        # give the same waits in a simulation.
        digest = H(self.settings.seed, draws.to_bytes(8, "little"))
        uniform = int.from_bytes(digest[:8], "little") / 2.0**64
        return self.now_s + seconds * (0.5 + uniform)

    def rest(self, fault: str) -> None:
        """Lets the trainer rest after a failure, longer after each one in a row."""
        pace, failures = self.settings.pace, self.state.failures
        wait_s = backoff_s(pace.rest_s, pace.most_s, failures)
        until_s = self.jittered(wait_s)
        self.state = evolve(
            self.state, rest_until_s=until_s, failures=failures + 1, fault=fault
        )
        self.note(fault, warns=True)

    def signed(self, kind: MessageKind, body: bytes) -> Envelope:
        """Signs with a counter that was never used before."""
        serial = self.state.serial + 1
        assert serial < 1 << _SERIAL_BITS
        self.state = evolve(self.state, serial=serial)
        # The start is in the high half and durable before the first envelope, so that
        # serials begin at 0 each time and are never written.
        boot = self.settings.boot + self.state.leap
        counter = (boot << _SERIAL_BITS) | serial
        return sign(self.settings.key, self.state.chain, kind, counter, body)

    def say(self, kind: MessageKind, body: bytes) -> Envelope:
        """Signs a message to the coordinators and publishes it."""
        envelope = self.signed(kind, body)
        topic = self.settings.topics.say(self.settings.device)
        self.emit(PublishBestEffort(topic, ENVELOPE.pack(envelope)))
        answers = self.state.answers
        answers = evolve(answers, unanswered=answers.unanswered + 1)
        self.state = evolve(self.state, answers=answers)
        return envelope

    def believe(self, envelope: Envelope) -> None:
        """Believes an envelope only from a trusted coordinator.

        Raises:
          SignatureError: If it is signed by anybody else.
        """
        if self.state.trusted.validators.index_of(envelope.sender) is None:
            raise SignatureError("not signed by a trusted coordinator")
        envelope.check(self.state.chain)
