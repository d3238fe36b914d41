"""One place keeps what the board is refused, so that its owner is told why.

Nothing here changes what the board does next: a coordinator may lie, and so may the
broker. What is refused for now is asked again in its own time.
"""

from starling.agent.step.agent_step import AgentStep
from starling.agent.step.refusal import STRANGERS_MAX, HeardAnswers, LastRefusal
from starling.agent.step.state import AgentState
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import Reason
from starling.protocol.ids import PublicKey, device_from_name, device_id, device_name
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import Refused, about_board

AGAIN_S = 3600.0
"""The same refusal is said again in the log after so long."""
GRAVE = frozenset(
    {
        Reason.NOT_ENROLLED,
        Reason.REPLAYED,
        Reason.JAILED,
        Reason.BAD_SIGNATURE,
        Reason.PAUSED,
        Reason.CLOSED,
        Reason.QUARANTINED,
    }
)
"""Reasons that concern the board, or its whole task, and not one message of it."""


def reason_name(reason: int) -> str:
    """A reason for people, also one of a later release."""
    try:
        return Reason(reason).name.lower()
    except ValueError:
        return f"reason {reason}"


def note_refusal(step: AgentStep, envelope: Envelope, refused: Refused) -> None:
    """Keeps a coordinator's refusal of something that we said."""
    about = _about(step.state, refused)
    if refused.subject == about_board(device_from_name(step.settings.device)):
        about = "all of this board"
    if about is None:
        return
    before, now_s = step.state.answers.refusal, step.now_s
    same = before is not None and before.reason == refused.reason
    began_s = before.at_s if before is not None and same else now_s
    logged_s = before.logged_s if before is not None and same else float("-inf")
    if refused.reason in GRAVE and now_s >= logged_s + AGAIN_S:
        name, logged_s = device_name(device_id(envelope.sender)), now_s
        text = f"{about} refused by {name}: {reason_name(refused.reason)}"
        step.note(f"{text}: {refused.detail}", warns=True)
    found = LastRefusal(
        refused.reason, refused.detail, envelope.sender, about, began_s, logged_s
    )
    _put(step, evolve(step.state.answers, refusal=found, unanswered=0))


def answered_well(step: AgentStep) -> None:
    """A coordinator gave us what we asked for: what was refused before is over."""
    answers = step.state.answers
    if answers.refusal is not None or answers.unanswered:
        _put(step, evolve(answers, refusal=None, unanswered=0))


def stranger(step: AgentStep, who: PublicKey, *, online: bool) -> None:
    """Notes a coordinator that speaks here and is none that we trust."""
    answers = step.state.answers
    strangers = answers.strangers | {who} if online else answers.strangers - {who}
    if strangers == answers.strangers or len(strangers) > STRANGERS_MAX:
        return
    if online:
        name = device_name(device_id(who))
        step.note(f"coordinator {name} is none that this board trusts", warns=True)
    _put(step, evolve(answers, strangers=strangers))


def broker_answered(step: AgentStep, code: int) -> None:
    """Notes that the broker refuses what we publish, or that it does not any more."""
    answers = step.state.answers
    if code == answers.broker_code:
        return
    if code:
        text = f"the broker refuses what this board publishes: 0x{code:02x}"
        step.note(text, warns=True)
    _put(step, evolve(answers, broker_code=code))


def _put(step: AgentStep, answers: HeardAnswers) -> None:
    step.state = evolve(step.state, answers=answers)


def _about(state: AgentState, refused: Refused) -> str | None:
    """Name of our message that was refused; None if it was none."""
    said = (
        ("check-in", state.asking),
        ("check-in for another lease", state.renewing),
        ("word of a lost update", state.forfeit),
        ("request for chunks", state.fetch),
    )
    for about, one in said:
        if one is not None and refused.subject == one.envelope:
            return about
    for item in state.waiting:
        if refused.subject in (item.entry.update, item.entry.digest):
            return f"update for version {item.entry.base}"
    return None
