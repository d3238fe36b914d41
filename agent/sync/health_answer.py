"""A coordinator asks for the board's checks: whether, and how often, they are made.

Each check takes a process and part of a second or more, and whoever asks may lie. So
what is asked too soon waits, and one answer is for all who asked meanwhile: all
coordinators hear what a board says.
"""

from starling.agent.step.agent_step import AgentStep
from starling.agent.step.effects import PublishBestEffort, RunChecks
from starling.agent.step.events import ChecksFinished
from starling.protocol.dataclass_replace import evolve
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind
from starling.protocol.wire.health_messages import (
    HEALTH_REPORT,
    HEALTH_REQUEST,
    HealthReport,
)

ANSWER_EVERY_S = 60.0
"""Between two answers, at least."""


def handle_request(turn: AgentStep, envelope: Envelope) -> None:
    """Notes that a coordinator asks, if it means this board.

    Raises:
      ProtocolError: If the body is malformed.
    """
    request = HEALTH_REQUEST.unpack(envelope.body)
    if request.device == turn.settings.identity:
        turn.state = evolve(turn.state, asked_health=True)


def rule_answer(turn: AgentStep) -> None:
    """Has the checks run, or says that the owner does not allow it."""
    state = turn.state
    if not (state.asked_health and state.connected) or turn.now_s < state.answer_at_s:
        return
    answer_at_s = turn.now_s + ANSWER_EVERY_S
    turn.state = evolve(state, asked_health=False, answer_at_s=answer_at_s)
    if turn.settings.tells_health:
        turn.note("a coordinator asks for this board's checks")
        turn.emit(RunChecks())
    else:
        _say(turn, HealthReport(0, ()))


def checks_finished(turn: AgentStep, event: ChecksFinished) -> None:
    """Says what the checks found."""
    _say(turn, HealthReport(1, event.rows))


def _say(turn: AgentStep, report: HealthReport) -> None:
    # Not `turn.say`, which counts what coordinators are to answer.
    envelope = turn.signed(MessageKind.HEALTH_REPORT, HEALTH_REPORT.pack(report))
    topic = turn.settings.topics.say(turn.settings.device)
    turn.emit(PublishBestEffort(topic, ENVELOPE.pack(envelope)))
