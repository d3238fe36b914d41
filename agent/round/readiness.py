"""Readiness: what keeps an agent from training, in one word for the operator."""

from starling.agent.step.refusal import SILENCE_MAX
from starling.agent.step.state import (
    AgentSettings,
    AgentState,
    ProvenVersion,
    ReadinessCondition,
)
from starling.protocol.errors import Reason
from starling.protocol.wire.message_bodies import DevicePhase

UPLOAD_ROOM = 8192
"""Bytes of an upload beside its vector: envelopes, boxes of 32 recipients, lengths."""
DISK_BYTES_MIN = 16 << 20
"""Below this much free disk no training starts; a charge must find its place."""
SLEEPING = frozenset(
    {
        ReadinessCondition.BUDGET_SPENT,
        ReadinessCondition.POLICY_REFUSED,
        ReadinessCondition.TASK_CHANGED,
        ReadinessCondition.PLEDGE_TOO_SMALL,
    }
)

_CALM = frozenset({ReadinessCondition.TOOK_PART, ReadinessCondition.PACED})
"""What needs nobody, as long as there is a connection."""


def pledge_of(settings: AgentSettings, offer: ProvenVersion) -> int:
    """Number of records that the board pledges; 0 if the task offers none so small.

    It follows from what the owner wrote down, and never from the data.
    """
    if not settings.pledge:
        return offer.spec.pledges[0]
    return offer.spec.pledge_for(settings.pledge)


def readiness_condition(
    settings: AgentSettings, state: AgentState, now_s: float
) -> ReadinessCondition | None:
    """Condition that keeps the board from checking in for the newest version.

    Returns:
      The first obstacle in the order in which they can be cleared; None if there is
      none.
    """
    offer = state.offer
    if offer is None:
        return (
            ReadinessCondition.UNINVITED
            if state.connected
            else ReadinessCondition.OFFLINE
        )
    if state.swapped:
        return ReadinessCondition.TASK_CHANGED
    if state.refusal is not None:
        return _refusal(settings, state, offer)
    return (
        _model_obstacle(settings, state, offer, now_s)
        or _room_obstacle(settings, state, offer)
        or _moment_obstacle(settings, state, now_s)
    )


def _refusal(
    settings: AgentSettings, state: AgentState, offer: ProvenVersion
) -> ReadinessCondition | None:
    """Reason why the ledger refuses; another one where it had lost charges."""
    lineage = state.chain, settings.task
    behind = offer.version < state.ledger.below.get(lineage, 0)
    lost = behind and state.refusal is ReadinessCondition.TOOK_PART
    return ReadinessCondition.LEDGER_BEHIND if lost else state.refusal


def _model_obstacle(
    settings: AgentSettings, state: AgentState, offer: ProvenVersion, now_s: float
) -> ReadinessCondition | None:
    if state.refused & {offer.spec.bundle, offer.model.training}:
        return ReadinessCondition.MODEL_REFUSED
    if state.data_fault:
        return ReadinessCondition.NO_DATA
    if not {offer.spec.bundle, offer.model.training} <= state.blobs:
        return (
            ReadinessCondition.FETCHING
            if state.connected
            else ReadinessCondition.OFFLINE
        )
    if state.loaded != offer.spec.bundle:
        failed = state.failures and state.loading is None
        rests = failed and now_s < state.rest_until_s
        return ReadinessCondition.RESTING if rests else ReadinessCondition.LOADING
    if pledge_of(settings, offer) == 0:
        return ReadinessCondition.PLEDGE_TOO_SMALL
    return None


def _room_obstacle(
    settings: AgentSettings, state: AgentState, offer: ProvenVersion
) -> ReadinessCondition | None:
    # As if the codec were float32, the widest one.
    needed = 4 * offer.spec.dimension + UPLOAD_ROOM
    used = sum(item.entry.size for item in state.waiting)
    if used + needed > settings.spool_bytes_max:
        return ReadinessCondition.SPOOL_FULL
    free = state.free_bytes
    if free is not None and free < DISK_BYTES_MIN + 2 * needed:
        return ReadinessCondition.DISK_FULL
    return None


def gap_s(settings: AgentSettings, state: AgentState) -> float:
    """Time between two updates: the planned ones are to last for the owner's period."""
    pace, offer = settings.pace, state.offer
    planned = 0 if offer is None else offer.spec.privacy.releases
    return max(pace.between_s, pace.period_s / planned if planned else 0.0)


def rest_until_s(settings: AgentSettings, state: AgentState) -> float:
    """Until when no training starts, whatever else there is."""
    return max(state.rest_until_s, state.released_at_s + gap_s(settings, state))


def _moment_obstacle(
    settings: AgentSettings, state: AgentState, now_s: float
) -> ReadinessCondition | None:
    if any(not (item.accepted or item.refusal) for item in state.waiting):
        return (
            ReadinessCondition.SENDING
            if state.connected
            else ReadinessCondition.OFFLINE
        )
    if now_s < rest_until_s(settings, state):
        failed = ReadinessCondition.RESTING
        return failed if state.failures else ReadinessCondition.PACED
    return None if state.connected else ReadinessCondition.OFFLINE


_TOLD = {
    Reason.NOT_ENROLLED: ReadinessCondition.REVOKED,
    Reason.REPLAYED: ReadinessCondition.RESTORED,
    Reason.JAILED: ReadinessCondition.JAILED,
    Reason.PAUSED: ReadinessCondition.TASK_PAUSED,
    Reason.CLOSED: ReadinessCondition.TASK_CLOSED,
    Reason.QUARANTINED: ReadinessCondition.QUARANTINED,
}
"""Nobody answers a board that the chain never knew: one that is told was revoked."""


def _refusal_condition(state: AgentState) -> ReadinessCondition | None:
    """Answer of broker and coordinators to all that a board does; None if it is well.

    Only shown: whoever says so may lie, and the board goes on asking.
    """
    answers = state.answers
    if not state.connected:
        return None
    told = None if answers.refusal is None else answers.refusal.reason
    if answers.broker_code and told != Reason.NOT_ENROLLED:
        # Who was revoked is shut out by the broker as well.
        return ReadinessCondition.BROKER_REFUSES
    present = any(state.online.values())
    if answers.strangers and not present:
        return ReadinessCondition.UNTRUSTED
    if told in _TOLD:
        return _TOLD[Reason(told)]
    if present and answers.unanswered > SILENCE_MAX:
        return ReadinessCondition.UNANSWERED
    return None


def condition(
    settings: AgentSettings, state: AgentState, now_s: float
) -> ReadinessCondition:
    """Condition of the agent, in one word for the operator."""
    if state.training is not None:
        return ReadinessCondition.TRAINING
    told = _refusal_condition(state)
    if told is not None:
        return told
    found = readiness_condition(settings, state, now_s)
    if found in _CALM and not state.connected:
        # A board that cannot reach its broker is not at rest, however long it may rest.
        return ReadinessCondition.OFFLINE
    if found is not None:
        return found
    if state.asking is None:
        return ReadinessCondition.READY
    unproven = state.told.lease is not None
    return ReadinessCondition.UNPROVEN if unproven else ReadinessCondition.ASKING


def phase(settings: AgentSettings, state: AgentState, now_s: float) -> DevicePhase:
    """Phase that the board publishes."""
    now = condition(settings, state, now_s)
    if now is ReadinessCondition.TRAINING:
        return DevicePhase.TRAINING
    if now in SLEEPING:
        return DevicePhase.SLEEPING
    return DevicePhase.INIT if state.offer is None else DevicePhase.READY
