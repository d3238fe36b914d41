"""Permissions: operators decide about others, boards about themselves."""

from starling.coordinator.chain.state import board_records, operator_records
from starling.coordinator.chain.state.overlay import StateOverlay
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import DeviceId
from starling.protocol.wire.envelope import Envelope


def check_operator(draft: StateOverlay, envelope: Envelope) -> None:
    """Refuses what no operator signed.

    Raises:
      ProtocolError: NOT_AUTHORISED.
    """
    if not operator_records.is_operator(draft, envelope.sender):
        raise ProtocolError("signed by no operator", Reason.NOT_AUTHORISED)


def require_board(
    draft: StateOverlay, envelope: Envelope, device: DeviceId
) -> BoardRecord:
    """The board that says something of itself.

    Raises:
      ProtocolError: NOT_ENROLLED or NOT_AUTHORISED.
    """
    board = board_records.board(draft, device)
    if board is None or board.revoked:
        raise ProtocolError("the board may not take part", Reason.NOT_ENROLLED)
    if board.public != envelope.sender:
        raise ProtocolError("not signed by the board", Reason.NOT_AUTHORISED)
    return board
