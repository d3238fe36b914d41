"""What keeps an agent from training, in one word that an operator can act on."""

from agent.state import Condition, Offer, Settings, State
from protocol.messages import DevicePhase

UPLOAD_ROOM = 8192
"""Bytes of an upload beside its vector: envelopes, boxes of 32 recipients, lengths."""
DISK_BYTES_MIN = 16 << 20
"""Below this much free disk no training starts; a charge must find its place."""
SLEEPING = frozenset(
    {
        Condition.BUDGET_SPENT,
        Condition.POLICY_REFUSED,
        Condition.TASK_CHANGED,
        Condition.PLEDGE_TOO_SMALL,
    }
)


def pledge_of(settings: Settings, offer: Offer) -> int:
    """How many records the board pledges for a task; 0 if it offers none so small.

    It follows from what the owner wrote down, and never from the data.
    """
    if not settings.pledge:
        return offer.spec.pledges[0]
    return offer.spec.pledge_for(settings.pledge)


def obstacle(settings: Settings, state: State, now_s: float) -> Condition | None:
    """What keeps the board from checking in for the newest version.

    Returns:
      The first obstacle in the order in which they can be cleared; None if there is
      none.
    """
    offer = state.offer
    if offer is None:
        return Condition.UNINVITED if state.connected else Condition.OFFLINE
    if state.swapped:
        return Condition.TASK_CHANGED
    if state.refusal is not None:
        return _refusal(settings, state, offer)
    return (
        _model_obstacle(settings, state, offer)
        or _room_obstacle(settings, state, offer)
        or _moment_obstacle(state, now_s)
    )


def _refusal(settings: Settings, state: State, offer: Offer) -> Condition | None:
    """Why the ledger would not pay; said apart where it had lost what it paid."""
    lineage = state.chain, settings.task
    behind = offer.version < state.ledger.below.get(lineage, 0)
    lost = behind and state.refusal is Condition.TOOK_PART
    return Condition.LEDGER_BEHIND if lost else state.refusal


def _model_obstacle(settings: Settings, state: State, offer: Offer) -> Condition | None:
    if state.refused & {offer.spec.bundle, offer.model.training}:
        return Condition.MODEL_REFUSED
    if state.data_fault:
        return Condition.NO_DATA
    if not {offer.spec.bundle, offer.model.training} <= state.blobs:
        return Condition.FETCHING if state.connected else Condition.OFFLINE
    if state.loaded != offer.spec.bundle:
        return Condition.LOADING
    if pledge_of(settings, offer) == 0:
        return Condition.PLEDGE_TOO_SMALL
    return None


def _room_obstacle(settings: Settings, state: State, offer: Offer) -> Condition | None:
    needed = 4 * offer.spec.dimension + UPLOAD_ROOM
    used = sum(item.entry.size for item in state.waiting)
    if used + needed > settings.spool_bytes_max:
        return Condition.SPOOL_FULL
    free = state.free_bytes
    if free is not None and free < DISK_BYTES_MIN + 2 * needed:
        return Condition.DISK_FULL
    return None


def _moment_obstacle(state: State, now_s: float) -> Condition | None:
    if any(not (item.accepted or item.refusal) for item in state.waiting):
        return Condition.SENDING if state.connected else Condition.OFFLINE
    if now_s < state.rest_until_s:
        return Condition.RESTING
    return None if state.connected else Condition.OFFLINE


def condition(settings: Settings, state: State, now_s: float) -> Condition:
    """What the agent is doing, in one word for the operator."""
    if state.training is not None:
        return Condition.TRAINING
    found = obstacle(settings, state, now_s)
    if found is not None:
        return found
    if state.asking is None:
        return Condition.READY
    unproven = state.told.lease is not None
    return Condition.UNPROVEN if unproven else Condition.ASKING


def phase(settings: Settings, state: State, now_s: float) -> DevicePhase:
    """What the board shows to everybody."""
    now = condition(settings, state, now_s)
    if now is Condition.TRAINING:
        return DevicePhase.TRAINING
    if now in SLEEPING:
        return DevicePhase.SLEEPING
    return DevicePhase.INIT if state.offer is None else DevicePhase.READY
