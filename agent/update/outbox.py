"""Outbox: an update on its way to the coordinators, and when its bytes are deleted.

One upload is sent at a time, the oldest first, a few chunks in flight. A signed receipt
of one coordinator stops the sending. Only a proof that the update is final, or a proven
version that makes it stale, deletes it; a refusal never does, unless everybody's and of
a task that is proven to be over.
"""

from starling.agent.step.agent_step import AgentStep
from starling.agent.step.effects import (
    DeleteSpooled,
    KeepProof,
    MarkAccepted,
    PublishSpooled,
)
from starling.agent.step.events import ChunkDelivered
from starling.agent.step.ongoing_work import (
    OngoingUpload,
    PendingUpload,
)
from starling.agent.sync import (
    ledger_reconciliation,
    model_download,
    refusal_record,
)
from starling.agent.update import lost_update_report
from starling.protocol.backoff import backoff_s
from starling.protocol.chain.light_client import FINAL
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import Reason
from starling.protocol.ids import Digest
from starling.protocol.wire.chunks import chunk_count
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import ACCEPTED, REFUSED

_REFUSED_CHUNK_S = 2.0


def find(step: AgentStep, update: Digest) -> PendingUpload | None:
    """The waiting upload with this id."""
    for item in step.state.waiting:
        if item.entry.update == update:
            return item
    return None


def _put(step: AgentStep, changed: PendingUpload) -> None:
    update = changed.entry.update
    waiting = tuple(
        [changed if i.entry.update == update else i for i in step.state.waiting]
    )
    step.state = evolve(step.state, waiting=waiting)


def _stop(step: AgentStep, update: Digest) -> None:
    sending = step.state.sending
    if sending is not None and sending.update == update:
        step.state = evolve(step.state, sending=None)


def _delete(step: AgentStep, item: PendingUpload, why: str) -> None:
    # First, since an upload under way is always one that waits.
    _stop(step, item.entry.update)
    waiting = tuple([other for other in step.state.waiting if other is not item])
    step.state = evolve(step.state, waiting=waiting)
    step.emit(DeleteSpooled(item.entry, why))


def rule_stale(step: AgentStep) -> None:
    """Deletes what a proven version, or the task's proven end, has made worthless."""
    offer = step.state.offer
    if offer is None:
        return
    is_over = step.settings.task in step.state.over
    for item in step.state.waiting:
        entry = item.entry
        late = offer.version - entry.base > entry.staleness_max
        if late or entry.base < offer.rolled or (is_over and item.refusal):
            _delete(step, item, "stale")


def rule_send(step: AgentStep) -> None:
    """Sends the oldest upload that still wants to be sent."""
    if not step.state.connected:
        return
    sending = step.state.sending or _begin(step)
    if sending is None:
        return
    item = find(step, sending.update)
    assert item is not None
    if sending.again_at_s is not None and step.now_s >= sending.again_at_s:
        sending = OngoingUpload(
            sending.update, 0, frozenset(), None, sending.attempt + 1
        )
    if sending.again_at_s is None:
        sending = _publish(step, item, sending)
    if sending is not step.state.sending:
        step.state = evolve(step.state, sending=sending)


def _begin(step: AgentStep) -> OngoingUpload | None:
    for item in step.state.waiting:
        if item.unleased or item.refusal:
            continue
        if step.now_s >= item.send_at_s:
            return OngoingUpload(item.entry.update, 0, frozenset(), None, 0)
    return None


def _publish(
    step: AgentStep, item: PendingUpload, sending: OngoingUpload
) -> OngoingUpload:
    count = chunk_count(item.entry.size)
    while sending.next < count and len(sending.in_flight) < step.settings.upload_window:
        step.emit(PublishSpooled(item.entry, sending.next))
        sending = evolve(
            sending,
            next=sending.next + 1,
            in_flight=sending.in_flight | {sending.next},
        )
    if sending.next < count or sending.in_flight:
        return sending
    pace = step.settings.pace
    bound_s = backoff_s(pace.accept_s, pace.most_s, sending.attempt)
    again_at_s = step.jittered(bound_s)
    return evolve(sending, again_at_s=again_at_s)


def chunk_delivered(step: AgentStep, event: ChunkDelivered) -> None:
    """Lets the next chunk go, or begins anew after a refusal by the broker."""
    sending = step.state.sending
    if sending is None or sending.update != event.update:
        return
    if event.index not in sending.in_flight:
        return
    sending = evolve(sending, in_flight=sending.in_flight - {event.index})
    if not event.taken:
        again_at_s = step.jittered(_REFUSED_CHUNK_S * (1 + sending.attempt))
        sending = evolve(sending, in_flight=frozenset(), again_at_s=again_at_s)
    step.state = evolve(step.state, sending=sending)


def disconnected(step: AgentStep) -> None:
    """Voids what was in flight; it is sent again with the next connection."""
    sending = step.state.sending
    # With all chunks sent, the wait for a receipt goes on across connections.
    if sending is not None and sending.again_at_s is None:
        # Chunks that the broker confirmed are not sent a second time.
        first = min(sending.in_flight, default=sending.next)
        sending = evolve(sending, next=first, in_flight=frozenset())
        step.state = evolve(step.state, sending=sending)


def handle_accepted(step: AgentStep, envelope: Envelope) -> None:
    """A coordinator has the update durably: it is not sent any more, but kept.

    Raises:
      ProtocolError: If the body is malformed.
    """
    item = find(step, ACCEPTED.unpack(envelope.body).update)
    if item is not None:
        _accepted(step, item)


def _accepted(step: AgentStep, item: PendingUpload) -> None:
    _stop(step, item.entry.update)
    send_at_s = step.jittered(step.settings.pace.final_s)
    first_time = not item.accepted
    _put(step, evolve(item, accepted=True, send_at_s=send_at_s))
    if first_time:
        step.emit(MarkAccepted(item.entry))


def handle_refused(step: AgentStep, envelope: Envelope) -> None:
    """Stops sending once every coordinator refuses for good; deletes nothing.

    Raises:
      ProtocolError: If the body is malformed.
    """
    refused = REFUSED.unpack(envelope.body)
    refusal_record.note_refusal(step, envelope, refused)
    ledger_reconciliation.handle_replayed(step, refused)
    asking = step.state.asking
    if asking is not None and refused.subject == asking.envelope:
        wait_s = max(step.settings.pace.check_in_s, float(refused.retry_after_s))
        asking = evolve(asking, again_at_s=step.jittered(wait_s))
        step.state = evolve(step.state, asking=asking)
        return
    if lost_update_report.handle_refused(
        step, refused
    ) or model_download.handle_refused(step, refused):
        return
    for item in step.state.waiting:
        if refused.subject in (item.entry.update, item.entry.digest):
            _refused(step, item, envelope, refused.reason, refused.retry_after_s)
            return


def _refused(
    step: AgentStep,
    item: PendingUpload,
    envelope: Envelope,
    reason: int,
    retry_after_s: int,
) -> None:
    why = refusal_record.reason_name(reason)
    step.note(f"update for version {item.entry.base} refused: {why}", warns=True)
    # The coordinator has it, which is as good as a receipt.
    if reason == Reason.ALREADY_KNOWN:
        _accepted(step, item)
        return
    is_over = step.settings.task in step.state.over
    if reason == Reason.NO_LEASE and not is_over:
        _put(step, evolve(item, unleased=True))
        _stop(step, item.entry.update)
        return
    sending = step.state.sending
    if retry_after_s and reason != Reason.NO_LEASE:
        if sending is not None and sending.update == item.entry.update:
            again_at_s = step.now_s + retry_after_s
            sending = evolve(sending, in_flight=frozenset(), again_at_s=again_at_s)
            step.state = evolve(step.state, sending=sending)
        return
    # One coordinator may lie: only all of them together stop an upload.
    refused_by = item.refused_by | {envelope.sender}
    everybody = {member.public for member in step.state.trusted.validators.members}
    final = reason if refused_by >= everybody else 0
    _put(step, evolve(item, refused_by=refused_by, refusal=final))
    if final:
        _stop(step, item.entry.update)


def handle_final(step: AgentStep, envelope: Envelope) -> None:
    """Deletes an update that is proven to stand in the chain.

    Raises:
      ProtocolError: If the proof does not hold.
    """
    final = FINAL.unpack(envelope.body)
    item = find(step, final.transaction.identity(step.state.chain))
    if item is not None:
        trusted = final.check(step.state.trusted)
        step.state = evolve(step.state, trusted=trusted, settled=item.entry.base)
        # Kept before the deletion: a start compares proofs with the ledger, and one
        # that names a charge which the journal lacks shows that it was cut.
        step.emit(KeepProof(item.entry, envelope.body))
        _delete(step, item, "final")
