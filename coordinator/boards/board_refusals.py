"""Telling boards why something is not taken: one of us does, once.

Every refusal is counted. It is told only if an enrolled board signed what is refused:
whoever has no more than a certificate of the broker gets no answer and no signature of
ours. The first coordinator of the board tells it, as in
`coordinator.peers.responder_selection`, or the next one if that is gone. A board
that sends the same thing again is told by one more of us each time, so that one liar
cannot talk it out of its update, and hears the same bytes again: they are not signed
anew.
"""

from dataclasses import replace

from starling.coordinator.chain.state import board_records
from starling.coordinator.peers import responder_selection
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.deferred_replies import DeferredRefusal, RefusalRecord
from starling.coordinator.step.effects import RecordRefusal, SendMessage
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import DeviceId, Digest, device_name
from starling.protocol.refusals import REFUSALS
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind
from starling.protocol.wire.message_bodies import REFUSED, about_board, refusal

AGAIN_S = 2.0
"""Sooner the same thing is not refused again: boards wait longer before they resend."""
REMINDED_MAX = 1024
"""Boards that hear why they are shut out with each connection: those revoked last."""


def is_signed(step: CoordinatorStep, device: DeviceId, envelope: Envelope) -> bool:
    """True if a board that the chain knows has signed an envelope."""
    tree = step.state.ledger.tree
    if board_records.owner(tree, envelope.sender) != device:
        return False
    # Known, even if revoked or jailed: such a board is told why.
    return board_records.board(tree, device) is not None and step.is_genuine(envelope)


def count(step: CoordinatorStep, device: DeviceId, error: ProtocolError) -> None:
    """Counts what is refused, and tells nobody."""
    step.emit(RecordRefusal(device, error.reason, str(error)))


def refuse(
    step: CoordinatorStep,
    device: DeviceId,
    subject: Digest,
    error: ProtocolError,
    *,
    answers: bool = False,
) -> None:
    """Counts what a board has signed and is refused, and tells it if that is for us.

    Args:
      step: The step.
      device: Whose it is.
      subject: Id of what is refused.
      error: Why.
      answers: Whether it is for us to answer in any case.
    """
    count(step, device, error)
    wait_s = REFUSALS[error.reason].retry_after_s
    known, again, envelope = step.session(device).refused, 0, b""
    if known is not None and (known.subject, known.reason) == (subject, error.reason):
        # Not noted either, so that a board that resends without pause is answered in
        # the end.
        if step.now_s < known.at_s + AGAIN_S:
            return
        again = known.again + 1
        # The same bytes again, while the wait that they name is still the right one.
        if not wait_s or step.now_s < known.signed_at_s + wait_s:
            envelope = known.envelope
    body = REFUSED.pack(refusal(subject, error, wait_s))
    signed_at_s = known.signed_at_s if known is not None and envelope else step.now_s
    noted = RefusalRecord(
        subject, error.reason, step.now_s, again, envelope, signed_at_s
    )
    _note(step, device, noted)
    if answers or _is_ours(step, device, again):
        _send_refusal(step, device, noted, body)
    else:
        left = DeferredRefusal(device, step.now_s, subject, body)
        responder_selection.defer_reply(step, left)


def board_changed(step: CoordinatorStep, device: DeviceId) -> None:
    """Tells a board that was revoked so, for as long as the broker keeps it.

    Each of us does: the board may be away now, and the broker lets it say nothing from
    now on that could be refused.
    """
    known = board_records.board(step.state.ledger.tree, device)
    if known is not None and known.revoked:
        _leave_word(step, device, known.revoked)


def connected(step: CoordinatorStep) -> None:
    """Tells all who were revoked so again: a broker that was started anew forgot it."""
    records = board_records.BOARDS
    found: list[tuple[int, DeviceId]] = []
    for key, packed in step.state.ledger.tree.items(records.prefix):
        if height := records.codec.unpack(packed).revoked:
            found.append((height, DeviceId(key[len(records.prefix) :])))
    for height, device in sorted(found)[-REMINDED_MAX:]:
        _leave_word(step, device, height)


def _leave_word(step: CoordinatorStep, device: DeviceId, height: int) -> None:
    error = ProtocolError(f"revoked at height {height}", Reason.NOT_ENROLLED)
    body = REFUSED.pack(refusal(about_board(device), error))
    envelope = ENVELOPE.pack(step.sign(MessageKind.REFUSED, body))
    topic = step.settings.topics.down(device_name(device))
    step.emit(SendMessage(topic, envelope, retain=True))


def send_deferred_refusal(step: CoordinatorStep, left: DeferredRefusal) -> None:
    """Tells a board in place of one that is gone."""
    # It was refused something else since, and this would mislead it.
    noted = step.session(left.device).refused
    if noted is not None and noted.subject == left.subject:
        _send_refusal(step, left.device, noted, left.body)


def _is_ours(step: CoordinatorStep, device: DeviceId, again: int) -> bool:
    if not step.settings.shared or step.state.ledger.alone:
        return True
    return (
        responder_selection.responder_rank(
            step, device, responder_selection.DOUBTED_AFTER_STATUSES
        )
        <= again
    )


def _send_refusal(
    step: CoordinatorStep, device: DeviceId, noted: RefusalRecord, body: bytes
) -> None:
    envelope = noted.envelope
    if not envelope:
        envelope = ENVELOPE.pack(step.sign(MessageKind.REFUSED, body))
        noted = replace(noted, envelope=envelope, signed_at_s=step.now_s)
        _note(step, device, noted)
    topic = step.settings.topics.down(device_name(device))
    step.emit(SendMessage(topic, envelope))


def _note(step: CoordinatorStep, device: DeviceId, noted: RefusalRecord) -> None:
    step.put_session(device, evolve(step.session(device), refused=noted))
