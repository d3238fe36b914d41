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


def handle_request(step: AgentStep, envelope: Envelope) -> None:
    """Notes that a coordinator asks, if it means this board.

    Raises:
      ProtocolError: If the body is malformed.
    """
    request = HEALTH_REQUEST.unpack(envelope.body)
    if request.device == step.settings.identity:
        step.state = evolve(step.state, asked_health=True)


def rule_answer(step: AgentStep) -> None:
    """Has the checks run, or says that the owner does not allow it."""
    state = step.state
    if not (state.asked_health and state.connected) or step.now_s < state.answer_at_s:
        return
    answer_at_s = step.now_s + ANSWER_EVERY_S
    step.state = evolve(state, asked_health=False, answer_at_s=answer_at_s)
    if step.settings.tells_health:
        step.note("a coordinator asks for this board's checks")
        step.emit(RunChecks())
    else:
        _say(step, HealthReport(0, ()))


def checks_finished(step: AgentStep, event: ChecksFinished) -> None:
    """Says what the checks found."""
    _say(step, HealthReport(1, event.rows))


def _say(step: AgentStep, report: HealthReport) -> None:
    # Not `step.say`, which counts what coordinators are to answer.
    envelope = step.signed(MessageKind.HEALTH_REPORT, HEALTH_REPORT.pack(report))
    topic = step.settings.topics.say(step.settings.device)
    step.emit(PublishBestEffort(topic, ENVELOPE.pack(envelope)))
