"""An update that was paid for and lost: the board says so, and makes no other one.

A power cut between charge and spool, or a trainer that fails after the charge, costs
the board its part in that version, and so does a ledger that was put back from an old
copy. The coordinators must know, or a small fleet in which it happens to many boards
would wait for their updates for good.
"""

from starling.agent.step.agent_step import AgentStep
from starling.agent.step.ongoing_work import (
    PendingCheckIn,
)
from starling.agent.step.state import (
    AgentSettings,
    AgentState,
    ProvenVersion,
    slot_of,
)
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import Reason
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import FORFEIT, Forfeit, Refused


def rule_forfeit(step: AgentStep) -> None:
    """Tells of a loss for the newest version, again from time to time."""
    state, offer = step.state, step.state.offer
    if offer is None or not state.connected or state.training is not None:
        return
    task, version = step.settings.task, offer.version
    charge = _charge(step.settings, state, offer)
    if charge is None or state.settled == version:
        return
    # An update in the spool is not lost, however long it waits.
    if any(item.entry.base == version for item in state.waiting):
        return
    told = state.forfeit
    if told is not None and told.version == version and step.now_s < told.again_at_s:
        return
    paid = state.ledger.stated(state.chain)
    envelope = step.say(
        MessageKind.FORFEIT, FORFEIT.pack(Forfeit(task, version, charge, paid))
    )
    again_at_s = step.jittered(step.settings.pace.most_s)
    told = PendingCheckIn(version, envelope.identity(state.chain), again_at_s)
    step.state = evolve(step.state, forfeit=told)


def _charge(
    settings: AgentSettings, state: AgentState, offer: ProvenVersion
) -> int | None:
    """Charge for the newest version that will never be sent; None if nothing."""
    slot = slot_of(state, settings.task, offer.version)
    charge = state.ledger.charged(*slot)
    if charge is not None:
        return charge.units
    for proven in state.ledger.proven:
        # The spare release was counted for an update of the head, the last version
        # below the bound.
        last = proven.chain, proven.task, proven.below - 1
        if proven.spare and last == slot:
            return proven.spare
    return None


def handle_refused(step: AgentStep, refused: Refused) -> bool:
    """Says no more once a coordinator knows what became of the version.

    Returns:
      Whether it was this that was refused.
    """
    told = step.state.forfeit
    if told is None or refused.subject != told.envelope:
        return False
    if refused.reason == Reason.ALREADY_KNOWN:
        step.state = evolve(step.state, settled=told.version)
    return True
