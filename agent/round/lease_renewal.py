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


def rule_renew(step: AgentStep) -> None:
    """Asks for a lease for the first upload that needs one."""
    item, offer = _needy(step), step.state.offer
    asked = step.state.renewing
    if item is None or offer is None or not step.state.connected:
        if item is None and asked is not None:
            step.state = evolve(step.state, renewing=None)
        return
    base = item.entry.base
    if asked is not None and asked.version == base and step.now_s < asked.again_at_s:
        return
    pledge = pledge_of(step.settings, offer)
    if not pledge:
        return
    resources = step.settings.resources_ppm
    check_in = CheckIn(step.settings.task, base, resources, PPM, PPM, pledge)
    envelope = step.say(MessageKind.CHECK_IN, CHECK_IN.pack(check_in))
    again_at_s = step.jittered(step.settings.pace.check_in_s)
    renewing = PendingCheckIn(base, envelope.identity(step.state.chain), again_at_s)
    step.state = evolve(step.state, renewing=renewing)


def _needy(step: AgentStep) -> PendingUpload | None:
    needy = (item for item in step.state.waiting if item.unleased and not item.accepted)
    return next(needy, None)


def handle_lease(step: AgentStep, envelope: Envelope, lease: Lease) -> bool:
    """Puts a lease beside the update that waits for it.

    Returns:
      Whether one does.
    """
    item = _needy(step)
    if item is None or item.entry.base != lease.version:
        return False
    step.emit(RenewLease(item.entry, envelope))
    return True


def renewed(step: AgentStep, event: LeaseRenewed) -> None:
    """The spool holds the update with its new lease: it is sent again."""
    entry = event.entry
    waiting = tuple(
        evolve(item, entry=entry, unleased=False, send_at_s=step.now_s)
        if item.entry.update == entry.update
        else item
        for item in step.state.waiting
    )
    step.state = evolve(step.state, waiting=waiting, renewing=None)
