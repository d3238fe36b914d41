"""Which boards may take part: operators REGISTER and REVOKE them, they ROTATE."""

from dataclasses import replace

from coordinator.ledger import accounts, layout, validators, views
from coordinator.ledger.accounts import Account
from coordinator.ledger.authority import check_operator, require_board
from coordinator.ledger.draft import BoardChanged, Context, Draft
from coordinator.ledger.records import BOARD
from protocol.envelope import Envelope
from protocol.errors import ProtocolError, Reason
from protocol.ids import Digest, PublicKey, device_id
from protocol.messages import REGISTER, REVOKE
from protocol.rotation import ROTATE, ROTATIONS_MAX
from protocol.statement import Board, board_key


def register(
    draft: Draft, context: Context, envelope: Envelope, identity: Digest
) -> None:
    """Admits a board. A revoked one never comes back under the same key.

    Raises:
      ProtocolError: NOT_AUTHORISED, ALREADY_KNOWN, INSUFFICIENT_FUNDS, if the
        operator cannot pay the deposit, or MALFORMED.
    """
    del identity
    body = REGISTER.unpack(envelope.body)
    check_operator(draft, envelope)
    board_id = device_id(body.device)
    known = views.board(draft, board_id)
    if known is not None and known.revoked:
        raise ProtocolError("the board was revoked", Reason.NOT_AUTHORISED)
    if known is not None or draft.get(layout.owner_key(body.device)) is not None:
        raise ProtocolError("the key is a board's", Reason.ALREADY_KNOWN)
    _check_no_validator(draft, context, body.device)
    held = accounts.account(draft, board_id) or Account()
    if held.deposit:
        # A former validator's: a board's deposit goes back to whoever registered it.
        raise ProtocolError("the key has a deposit to release", Reason.ALREADY_KNOWN)
    sponsor = device_id(envelope.sender)
    if deposit := context.genesis.economy.board_deposit:
        accounts.debit(draft, sponsor, deposit)
        held = accounts.account(draft, board_id) or Account()
        held = replace(held, deposit=held.deposit + deposit)
        accounts.put_account(draft, board_id, held)
    board = Board(body.device, sponsor, context.height, 0, 0, 0)
    draft.put(board_key(board_id), BOARD.pack(board))
    count = views.board_count(draft) + 1
    draft.put(layout.BOARDS_KEY, layout.pack_number(count))
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
    draft.put(board_key(body.device), BOARD.pack(revoked))
    draft.happen(BoardChanged(body.device))


def rotate(
    draft: Draft, context: Context, envelope: Envelope, identity: Digest
) -> None:
    """Gives a board its next key; what it signed before still counts against it.

    Raises:
      ProtocolError: NOT_ENROLLED, NOT_AUTHORISED, ALREADY_KNOWN, BUSY, BAD_SIGNATURE
        or MALFORMED.
    """
    del identity
    body = ROTATE.unpack(envelope.body)
    board = require_board(draft, envelope, body.device)
    if board.rotations >= ROTATIONS_MAX:
        raise ProtocolError(f"{ROTATIONS_MAX} rotations at most", Reason.BUSY)
    _check_unused(draft, context, body.following)
    body.check(context.chain_id, envelope.sender)
    rotations = board.rotations + 1
    after = replace(board, public=body.following, rotations=rotations)
    draft.put(board_key(body.device), BOARD.pack(after))
    draft.put(layout.owner_key(body.following), body.device)
    draft.happen(BoardChanged(body.device))


def _check_unused(draft: Draft, context: Context, public: PublicKey) -> None:
    """Refuses a key that somebody signs with: evidence must name one owner."""
    if views.in_use(draft, public):
        raise ProtocolError("the key is in use", Reason.ALREADY_KNOWN)
    _check_no_validator(draft, context, public)


def _check_no_validator(draft: Draft, context: Context, public: PublicKey) -> None:
    """Refuses a key that still answers, or soon will, for what a validator signs."""
    if validators.answers(draft, context, device_id(public)):
        raise ProtocolError("the key is a validator's", Reason.ALREADY_KNOWN)
