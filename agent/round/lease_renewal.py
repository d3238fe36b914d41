"""A lease that coordinators do not take any more: the board asks for a fresh one.

Its grantor may have left. The signed update stays as it is, and with it what was paid;
only the lease beside it in the spool is replaced, and the upload is sent again.
"""

from starling.agent.round.readiness import pledge_of
from starling.agent.step.agent_step import AgentStep
from starling.agent.step.effects import RenewLease
from starling.agent.step.events import LeaseRenewed
from starling.agent.step.ongoing_work import (
    PendingCheckIn,
    PendingUpload,
)
from starling.protocol.dataclass_replace import evolve
from starling.protocol.wire.envelope import Envelope, MessageKind
from starling.protocol.wire.message_bodies import CHECK_IN, PPM, CheckIn, Lease


def rule_renew(turn: AgentStep) -> None:
    """Asks for a lease for the first upload that needs one."""
    item, offer = _needy(turn), turn.state.offer
    asked = turn.state.renewing
    if item is None or offer is None or not turn.state.connected:
        if item is None and asked is not None:
            turn.state = evolve(turn.state, renewing=None)
        return
    base = item.entry.base
    if asked is not None and asked.version == base and turn.now_s < asked.again_at_s:
        return
    pledge = pledge_of(turn.settings, offer)
    if not pledge:
        return
    resources = turn.settings.resources_ppm
    check_in = CheckIn(turn.settings.task, base, resources, PPM, PPM, pledge)
    envelope = turn.say(MessageKind.CHECK_IN, CHECK_IN.pack(check_in))
    again_at_s = turn.jittered(turn.settings.pace.check_in_s)
    renewing = PendingCheckIn(base, envelope.identity(turn.state.chain), again_at_s)
    turn.state = evolve(turn.state, renewing=renewing)


def _needy(turn: AgentStep) -> PendingUpload | None:
    needy = (item for item in turn.state.waiting if item.unleased and not item.accepted)
    return next(needy, None)


def handle_lease(turn: AgentStep, envelope: Envelope, lease: Lease) -> bool:
    """Puts a lease beside the update that waits for it.

    Returns:
      Whether one does.
    """
    item = _needy(turn)
    if item is None or item.entry.base != lease.version:
        return False
    turn.emit(RenewLease(item.entry, envelope))
    return True


def renewed(turn: AgentStep, event: LeaseRenewed) -> None:
    """The spool holds the update with its new lease: it is sent again."""
    entry = event.entry
    waiting = tuple(
        evolve(item, entry=entry, unleased=False, send_at_s=turn.now_s)
        if item.entry.update == entry.update
        else item
        for item in turn.state.waiting
    )
    turn.state = evolve(turn.state, waiting=waiting, renewing=None)
