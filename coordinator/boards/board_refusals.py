"""Telling boards why something is not taken: one of us does, once.

Every refusal is counted. It is told only if an enrolled board signed what is refused:
whoever has no more than a certificate of the broker gets no answer and no signature of
ours. The first coordinator of the board tells it, as in
`coordinator.membership.responder_selection`, or the next one if that is gone. A board
that sends the same thing again is told by one more of us each time, so that one liar
cannot talk it out of its update, and hears the same bytes again: they are not signed
anew.
"""

from dataclasses import replace

from starling.coordinator.chain.state import board_records
from starling.coordinator.membership import responder_selection
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


def is_signed(turn: CoordinatorStep, device: DeviceId, envelope: Envelope) -> bool:
    """True if a board that the chain knows has signed an envelope."""
    tree = turn.state.ledger.tree
    if board_records.owner(tree, envelope.sender) != device:
        return False
    return board_records.board(tree, device) is not None and turn.is_genuine(envelope)


def count(turn: CoordinatorStep, device: DeviceId, error: ProtocolError) -> None:
    """Counts what is refused, and tells nobody."""
    turn.emit(RecordRefusal(device, error.reason, str(error)))


def refuse(
    turn: CoordinatorStep,
    device: DeviceId,
    subject: Digest,
    error: ProtocolError,
    *,
    answers: bool = False,
) -> None:
    """Counts what a board has signed and is refused, and tells it if that is for us.

    Args:
      turn: The step.
      device: Whose it is.
      subject: Id of what is refused.
      error: Why.
      answers: Whether it is for us to answer in any case.
    """
    count(turn, device, error)
    wait_s = REFUSALS[error.reason].retry_after_s
    known, again, envelope = turn.session(device).refused, 0, b""
    if known is not None and (known.subject, known.reason) == (subject, error.reason):
        if turn.now_s < known.at_s + AGAIN_S:
            return
        again = known.again + 1
        if not wait_s or turn.now_s < known.signed_at_s + wait_s:
            envelope = known.envelope
    body = REFUSED.pack(refusal(subject, error, wait_s))
    signed_at_s = known.signed_at_s if known is not None and envelope else turn.now_s
    noted = RefusalRecord(
        subject, error.reason, turn.now_s, again, envelope, signed_at_s
    )
    _note(turn, device, noted)
    if answers or _is_ours(turn, device, again):
        _tell(turn, device, noted, body)
    else:
        left = DeferredRefusal(device, turn.now_s, subject, body)
        responder_selection.defer_reply(turn, left)


def board_changed(turn: CoordinatorStep, device: DeviceId) -> None:
    """Tells a board that was revoked so, for as long as the broker keeps it.

    Each of us does: the board may be away now, and the broker lets it say nothing from
    now on that could be refused.
    """
    known = board_records.board(turn.state.ledger.tree, device)
    if known is not None and known.revoked:
        _leave_word(turn, device, known.revoked)


def connected(turn: CoordinatorStep) -> None:
    """Tells all who were revoked so again: a broker that was started anew forgot it."""
    records = board_records.BOARDS
    found: list[tuple[int, DeviceId]] = []
    for key, packed in turn.state.ledger.tree.items(records.prefix):
        if height := records.codec.unpack(packed).revoked:
            found.append((height, DeviceId(key[len(records.prefix) :])))
    for height, device in sorted(found)[-REMINDED_MAX:]:
        _leave_word(turn, device, height)


def _leave_word(turn: CoordinatorStep, device: DeviceId, height: int) -> None:
    error = ProtocolError(f"revoked at height {height}", Reason.NOT_ENROLLED)
    body = REFUSED.pack(refusal(about_board(device), error))
    envelope = ENVELOPE.pack(turn.sign(MessageKind.REFUSED, body))
    topic = turn.settings.topics.down(device_name(device))
    turn.emit(SendMessage(topic, envelope, retain=True))


def send_deferred_refusal(turn: CoordinatorStep, left: DeferredRefusal) -> None:
    """Tells a board in place of one that is gone."""
    noted = turn.session(left.device).refused
    if noted is not None and noted.subject == left.subject:
        _tell(turn, left.device, noted, left.body)


def _is_ours(turn: CoordinatorStep, device: DeviceId, again: int) -> bool:
    if not turn.settings.shared or turn.state.ledger.alone:
        return True
    return (
        responder_selection.responder_rank(
            turn, device, responder_selection.DOUBTED_AFTER_STATUSES
        )
        <= again
    )


def _tell(
    turn: CoordinatorStep, device: DeviceId, noted: RefusalRecord, body: bytes
) -> None:
    envelope = noted.envelope
    if not envelope:
        envelope = ENVELOPE.pack(turn.sign(MessageKind.REFUSED, body))
        noted = replace(noted, envelope=envelope, signed_at_s=turn.now_s)
        _note(turn, device, noted)
    topic = turn.settings.topics.down(device_name(device))
    turn.emit(SendMessage(topic, envelope))


def _note(turn: CoordinatorStep, device: DeviceId, noted: RefusalRecord) -> None:
    turn.put_session(device, evolve(turn.session(device), refused=noted))
