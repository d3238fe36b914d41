"""Telling boards why something is not taken: one of us does, once.

Every refusal is counted. It is told only if an enrolled board signed what is refused:
whoever has no more than a certificate of the broker gets no answer and no signature of
ours. The first coordinator of the board tells it, as in `coordinator.duty`, or the next
one if that is gone. A board that sends the same thing again is told by one more of us
each time, so that one liar cannot talk it out of its update, and hears the same bytes
again: they are not signed anew.
"""

from dataclasses import replace

from coordinator import duty
from coordinator.effects import Publish, Refuse
from coordinator.ledger import views
from coordinator.owed import LeftRefusal, Refusal
from coordinator.turn import RETRY_AFTER_S, Turn
from protocol.envelope import ENVELOPE, Envelope, Kind
from protocol.errors import ProtocolError
from protocol.evolve import evolve
from protocol.ids import DeviceId, Digest, device_name
from protocol.messages import REFUSED, refusal

AGAIN_S = 2.0
"""Sooner the same thing is not refused again: boards wait longer before they resend."""


def is_signed(turn: Turn, device: DeviceId, envelope: Envelope) -> bool:
    """Whether a board that the chain knows has signed an envelope."""
    tree = turn.ledger.tree
    if views.owner(tree, envelope.sender) != device:
        return False
    return views.board(tree, device) is not None and turn.is_genuine(envelope)


def count(turn: Turn, device: DeviceId, error: ProtocolError) -> None:
    """Counts what is refused, and tells nobody."""
    turn.emit(Refuse(device, error.reason, str(error)))


def refuse(
    turn: Turn,
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
    wait_s = RETRY_AFTER_S.get(error.reason, 0)
    known, again, envelope = turn.session(device).refused, 0, b""
    if known is not None and (known.subject, known.reason) == (subject, error.reason):
        if turn.now_s < known.at_s + AGAIN_S:
            return
        again = known.again + 1
        if not wait_s or turn.now_s < known.signed_at_s + wait_s:
            envelope = known.envelope
    body = REFUSED.pack(refusal(subject, error, wait_s))
    signed_at_s = known.signed_at_s if known is not None and envelope else turn.now_s
    noted = Refusal(subject, error.reason, turn.now_s, again, envelope, signed_at_s)
    _note(turn, device, noted)
    if answers or _is_ours(turn, device, again):
        _tell(turn, device, noted, body)
    else:
        left = LeftRefusal(device, turn.now_s, subject, body)
        duty.leave(turn, left)


def stand_in(turn: Turn, left: LeftRefusal) -> None:
    """Tells a board in place of one that is gone."""
    noted = turn.session(left.device).refused
    if noted is not None and noted.subject == left.subject:
        _tell(turn, left.device, noted, left.body)


def _is_ours(turn: Turn, device: DeviceId, again: int) -> bool:
    if not turn.settings.shared or turn.ledger.alone:
        return True
    return duty.rank(turn, device, duty.DOUBTED_AFTER_STATUSES) <= again


def _tell(turn: Turn, device: DeviceId, noted: Refusal, body: bytes) -> None:
    envelope = noted.envelope
    if not envelope:
        envelope = ENVELOPE.pack(turn.sign(Kind.REFUSED, body))
        noted = replace(noted, envelope=envelope, signed_at_s=turn.now_s)
        _note(turn, device, noted)
    topic = turn.settings.topics.down(device_name(device))
    turn.emit(Publish(topic, envelope))


def _note(turn: Turn, device: DeviceId, noted: Refusal) -> None:
    turn.put_session(device, evolve(turn.session(device), refused=noted))
