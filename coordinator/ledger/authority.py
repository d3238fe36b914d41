"""Who may decide: operators about others, boards about themselves."""

from coordinator.ledger import layout, views
from coordinator.ledger.draft import Draft
from protocol.envelope import Envelope
from protocol.errors import ProtocolError, Reason
from protocol.ids import DeviceId
from protocol.statement import Board


def check_operator(draft: Draft, envelope: Envelope) -> None:
    """Refuses what no operator signed.

    Raises:
      ProtocolError: NOT_AUTHORISED.
    """
    if draft.get(layout.operator_key(envelope.sender)) is None:
        raise ProtocolError("signed by no operator", Reason.NOT_AUTHORISED)


def require_board(draft: Draft, envelope: Envelope, device: DeviceId) -> Board:
    """The board that says something of itself.

    Raises:
      ProtocolError: NOT_ENROLLED or NOT_AUTHORISED.
    """
    board = views.board(draft, device)
    if board is None or board.revoked:
        raise ProtocolError("the board may not take part", Reason.NOT_ENROLLED)
    if board.public != envelope.sender:
        raise ProtocolError("not signed by the board", Reason.NOT_AUTHORISED)
    return board
