"""An operator asks what a board's own checks say, through the coordinator it runs.

The board is asked over the link, and answers when it may: all of us hear it, and each
hands it to those of its own operators that wait for it.
"""

from starling.coordinator.chain.state import board_records, operator_records
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import RemoveInboxFile, SendMessage
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import DeviceId, device_name
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind
from starling.protocol.wire.health_messages import HEALTH_REPORT, HEALTH_REQUEST

WAITING_MAX = 8
"""Commands that wait for one board's answer; of more the last ones have it."""


def ask(step: CoordinatorStep, name: str, envelope: Envelope) -> None:
    """Asks a board for its checks.

    Args:
      step: The step.
      name: Of the file in the inbox, whose place the answer takes.
      envelope: The operator's HEALTH_REQUEST; its signature holds.

    Raises:
      ProtocolError: NOT_AUTHORISED, NOT_ENROLLED or MALFORMED.
    """
    device = HEALTH_REQUEST.unpack(envelope.body).device
    tree = step.state.ledger.tree
    if not operator_records.is_operator(tree, envelope.sender):
        raise ProtocolError("signed by no operator", Reason.NOT_AUTHORISED)
    board = board_records.board(tree, device)
    if board is None or board.revoked:
        raise ProtocolError("no such board, or revoked", Reason.NOT_ENROLLED)
    request = step.sign(MessageKind.HEALTH_REQUEST, envelope.body)
    topic = step.settings.topics.down(device_name(device))
    # The question before the file goes: after a crash in between it is asked again.
    step.emit(SendMessage(topic, ENVELOPE.pack(request)), RemoveInboxFile(name))
    session = step.session(device)
    waiting = (*session.health_waits, name)[-WAITING_MAX:]
    step.put_session(device, evolve(session, health_waits=waiting))


def answered(step: CoordinatorStep, device: DeviceId, envelope: Envelope) -> None:
    """Hands a board's answer to who waits for it.

    Raises:
      ProtocolError: If it is malformed.
    """
    HEALTH_REPORT.unpack(envelope.body)
    session = step.session(device)
    # All commands that wait get this answer: it is of now.
    for name in session.health_waits:
        step.emit(RemoveInboxFile(name, answer=envelope.body))
    if session.health_waits:
        step.put_session(device, evolve(session, health_waits=()))
