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
from starling.protocol.chain.light_client import FINAL
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import Reason
from starling.protocol.ids import Digest
from starling.protocol.wire.chunks import chunk_count
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import ACCEPTED, REFUSED

_DOUBLINGS_MAX = 16
_REFUSED_CHUNK_S = 2.0


def find(turn: AgentStep, update: Digest) -> PendingUpload | None:
    """The waiting upload with this id."""
    for item in turn.state.waiting:
        if item.entry.update == update:
            return item
    return None


def _put(turn: AgentStep, changed: PendingUpload) -> None:
    update = changed.entry.update
    waiting = tuple(
        [changed if i.entry.update == update else i for i in turn.state.waiting]
    )
    turn.state = evolve(turn.state, waiting=waiting)


def _stop(turn: AgentStep, update: Digest) -> None:
    sending = turn.state.sending
    if sending is not None and sending.update == update:
        turn.state = evolve(turn.state, sending=None)


def _delete(turn: AgentStep, item: PendingUpload, why: str) -> None:
    _stop(turn, item.entry.update)
    waiting = tuple([other for other in turn.state.waiting if other is not item])
    turn.state = evolve(turn.state, waiting=waiting)
    turn.emit(DeleteSpooled(item.entry, why))


def rule_stale(turn: AgentStep) -> None:
    """Deletes what a proven version, or the task's proven end, has made worthless."""
    offer = turn.state.offer
    if offer is None:
        return
    is_over = turn.settings.task in turn.state.over
    for item in turn.state.waiting:
        entry = item.entry
        late = offer.version - entry.base > entry.staleness_max
        if late or entry.base < offer.rolled or (is_over and item.refusal):
            _delete(turn, item, "stale")


def rule_send(turn: AgentStep) -> None:
    """Sends the oldest upload that still wants to be sent."""
    if not turn.state.connected:
        return
    sending = turn.state.sending or _begin(turn)
    if sending is None:
        return
    item = find(turn, sending.update)
    assert item is not None
    if sending.again_at_s is not None and turn.now_s >= sending.again_at_s:
        sending = OngoingUpload(
            sending.update, 0, frozenset(), None, sending.attempt + 1
        )
    if sending.again_at_s is None:
        sending = _publish(turn, item, sending)
    if sending is not turn.state.sending:
        turn.state = evolve(turn.state, sending=sending)


def _begin(turn: AgentStep) -> OngoingUpload | None:
    for item in turn.state.waiting:
        if item.unleased or item.refusal:
            continue
        if turn.now_s >= item.send_at_s:
            return OngoingUpload(item.entry.update, 0, frozenset(), None, 0)
    return None


def _publish(
    turn: AgentStep, item: PendingUpload, sending: OngoingUpload
) -> OngoingUpload:
    count = chunk_count(item.entry.size)
    while sending.next < count and len(sending.in_flight) < turn.settings.upload_window:
        turn.emit(PublishSpooled(item.entry, sending.next))
        sending = evolve(
            sending,
            next=sending.next + 1,
            in_flight=sending.in_flight | {sending.next},
        )
    if sending.next < count or sending.in_flight:
        return sending
    pace = turn.settings.pace
    doubled = pace.accept_s * 2.0 ** min(sending.attempt, _DOUBLINGS_MAX)
    again_at_s = turn.jittered(min(pace.most_s, doubled))
    return evolve(sending, again_at_s=again_at_s)


def chunk_delivered(turn: AgentStep, event: ChunkDelivered) -> None:
    """Lets the next chunk go, or begins anew after a refusal by the broker."""
    sending = turn.state.sending
    if sending is None or sending.update != event.update:
        return
    if event.index not in sending.in_flight:
        return
    sending = evolve(sending, in_flight=sending.in_flight - {event.index})
    if not event.taken:
        again_at_s = turn.jittered(_REFUSED_CHUNK_S * (1 + sending.attempt))
        sending = evolve(sending, in_flight=frozenset(), again_at_s=again_at_s)
    turn.state = evolve(turn.state, sending=sending)


def disconnected(turn: AgentStep) -> None:
    """Voids what was in flight; it is sent again with the next connection."""
    sending = turn.state.sending
    if sending is not None and sending.again_at_s is None:
        first = min(sending.in_flight, default=sending.next)
        sending = evolve(sending, next=first, in_flight=frozenset())
        turn.state = evolve(turn.state, sending=sending)


def handle_accepted(turn: AgentStep, envelope: Envelope) -> None:
    """A coordinator has the update durably: it is not sent any more, but kept.

    Raises:
      ProtocolError: If the body is malformed.
    """
    item = find(turn, ACCEPTED.unpack(envelope.body).update)
    if item is not None:
        _accepted(turn, item)


def _accepted(turn: AgentStep, item: PendingUpload) -> None:
    _stop(turn, item.entry.update)
    send_at_s = turn.jittered(turn.settings.pace.final_s)
    first_time = not item.accepted
    _put(turn, evolve(item, accepted=True, send_at_s=send_at_s))
    if first_time:
        turn.emit(MarkAccepted(item.entry))


def handle_refused(turn: AgentStep, envelope: Envelope) -> None:
    """Stops sending once every coordinator refuses for good; deletes nothing.

    Raises:
      ProtocolError: If the body is malformed.
    """
    refused = REFUSED.unpack(envelope.body)
    refusal_record.note_refusal(turn, envelope, refused)
    ledger_reconciliation.handle_replayed(turn, refused)
    asking = turn.state.asking
    if asking is not None and refused.subject == asking.envelope:
        wait_s = max(turn.settings.pace.check_in_s, float(refused.retry_after_s))
        asking = evolve(asking, again_at_s=turn.jittered(wait_s))
        turn.state = evolve(turn.state, asking=asking)
        return
    if lost_update_report.handle_refused(
        turn, refused
    ) or model_download.handle_refused(turn, refused):
        return
    for item in turn.state.waiting:
        if refused.subject in (item.entry.update, item.entry.digest):
            _refused(turn, item, envelope, refused.reason, refused.retry_after_s)
            return


def _refused(
    turn: AgentStep,
    item: PendingUpload,
    envelope: Envelope,
    reason: int,
    retry_after_s: int,
) -> None:
    why = refusal_record.reason_name(reason)
    turn.note(f"update for version {item.entry.base} refused: {why}", warns=True)
    if reason == Reason.ALREADY_KNOWN:
        _accepted(turn, item)
        return
    is_over = turn.settings.task in turn.state.over
    if reason == Reason.NO_LEASE and not is_over:
        _put(turn, evolve(item, unleased=True))
        _stop(turn, item.entry.update)
        return
    sending = turn.state.sending
    if retry_after_s and reason != Reason.NO_LEASE:
        if sending is not None and sending.update == item.entry.update:
            again_at_s = turn.now_s + retry_after_s
            sending = evolve(sending, in_flight=frozenset(), again_at_s=again_at_s)
            turn.state = evolve(turn.state, sending=sending)
        return
    refused_by = item.refused_by | {envelope.sender}
    everybody = {member.public for member in turn.state.trusted.validators.members}
    final = reason if refused_by >= everybody else 0
    _put(turn, evolve(item, refused_by=refused_by, refusal=final))
    if final:
        _stop(turn, item.entry.update)


def handle_final(turn: AgentStep, envelope: Envelope) -> None:
    """Deletes an update that is proven to stand in the chain.

    Raises:
      ProtocolError: If the proof does not hold.
    """
    final = FINAL.unpack(envelope.body)
    item = find(turn, final.transaction.identity(turn.state.chain))
    if item is not None:
        trusted = final.check(turn.state.trusted)
        turn.state = evolve(turn.state, trusted=trusted, settled=item.entry.base)
        turn.emit(KeepProof(item.entry, envelope.body))
        _delete(turn, item, "final")
