"""Who may take part: REGISTER and REVOKE of boards by operators.

Rotation of keys and changes of operators and validators belong here too.
"""

from dataclasses import replace

from coordinator.ledger import views
from coordinator.ledger.draft import BoardChanged, Context, Draft
from coordinator.ledger.records import BOARD, Board
from protocol.envelope import Envelope
from protocol.errors import ProtocolError, Reason
from protocol.ids import Digest, device_id
from protocol.messages import REGISTER, REVOKE


def check_operator(draft: Draft, envelope: Envelope) -> None:
    """Refuses what no operator signed.

    Raises:
      ProtocolError: NOT_AUTHORISED.
    """
    if draft.get(views.operator_key(envelope.sender)) is None:
        raise ProtocolError("signed by no operator", Reason.NOT_AUTHORISED)


def register(
    draft: Draft, context: Context, envelope: Envelope, identity: Digest
) -> None:
    """Admits a board. A revoked one never comes back under the same key.

    Raises:
      ProtocolError: NOT_AUTHORISED, ALREADY_KNOWN or MALFORMED.
    """
    del identity
    body = REGISTER.unpack(envelope.body)
    check_operator(draft, envelope)
    board_id = device_id(body.device)
    known = views.board(draft, board_id)
    if known is not None and known.revoked:
        raise ProtocolError("the board was revoked", Reason.NOT_AUTHORISED)
    if known is not None:
        raise ProtocolError("the board is registered", Reason.ALREADY_KNOWN)
    board = Board(body.device, context.height, 0, 0, 0)
    draft.put(views.board_key(board_id), BOARD.pack(board))
    count = views.board_count(draft) + 1
    draft.put(views.BOARDS_KEY, views.pack_number(count))
    draft.happen(BoardChanged(board_id))


def revoke(
    draft: Draft, context: Context, envelope: Envelope, identity: Digest
) -> None:
    """Excludes a board from now on; what it sent before stays.

    Raises:
      ProtocolError: NOT_AUTHORISED, NOT_ENROLLED, ALREADY_KNOWN or MALFORMED.
    """
    del identity
    body = REVOKE.unpack(envelope.body)
    check_operator(draft, envelope)
    known = views.board(draft, body.device)
    if known is None:
        raise ProtocolError("no such board", Reason.NOT_ENROLLED)
    if known.revoked:
        raise ProtocolError("the board is revoked", Reason.ALREADY_KNOWN)
    revoked = replace(known, revoked=context.height)
    draft.put(views.board_key(body.device), BOARD.pack(revoked))
    draft.happen(BoardChanged(body.device))
