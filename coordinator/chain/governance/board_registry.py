"""Board registry: operators REGISTER and REVOKE boards, which ROTATE their keys."""

from dataclasses import replace

from starling.coordinator.chain.governance import credit_accounts, validator_set
from starling.coordinator.chain.governance.credit_accounts import Account
from starling.coordinator.chain.governance.permissions import (
    check_operator,
    require_board,
)
from starling.coordinator.chain.state import board_records
from starling.coordinator.chain.state.overlay import (
    BlockContext,
    BoardChanged,
    StateOverlay,
)
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.chain.key_rotation import ROTATE, ROTATIONS_MAX
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import Digest, PublicKey, device_id
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import REGISTER, REVOKE

BOARD_REVOKED = "the board was revoked"
"""Detail of the refusal to register a board that was revoked."""


def register(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
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
    known = board_records.board(draft, board_id)
    if known is not None and known.revoked:
        raise ProtocolError(BOARD_REVOKED, Reason.NOT_AUTHORISED)
    # A key that a board rotated to names that board for ever, even after it was given
    # up.
    if known is not None or board_records.KEY_OWNERS.has(draft, body.device):
        raise ProtocolError("the key is a board's", Reason.ALREADY_KNOWN)
    _check_no_validator(draft, context, body.device)
    held = credit_accounts.account(draft, board_id) or Account()
    if held.deposit:
        # A former validator's: a board's deposit goes back to whoever registered it.
        raise ProtocolError("the key has a deposit to release", Reason.ALREADY_KNOWN)
    sponsor = device_id(envelope.sender)
    if deposit := context.genesis.economy.board_deposit:
        credit_accounts.debit(draft, sponsor, deposit)
        # Read again: the sponsor may have this very key, and has just paid.
        held = credit_accounts.account(draft, board_id) or Account()
        held = replace(held, deposit=held.deposit + deposit)
        credit_accounts.put_account(draft, board_id, held)
    board = BoardRecord(body.device, sponsor, context.height, 0, 0, 0)
    board_records.BOARDS.put(draft, board, board_id)
    count = board_records.board_count(draft) + 1
    board_records.BOARD_COUNT.put(draft, count)
    draft.happen(BoardChanged(board_id))


def revoke(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Excludes a board from now on; what it sent before stays.

    Raises:
      ProtocolError: NOT_AUTHORISED, NOT_ENROLLED, ALREADY_KNOWN or MALFORMED.
    """
    del identity
    body = REVOKE.unpack(envelope.body)
    check_operator(draft, envelope)
    known = board_records.board(draft, body.device)
    if known is None:
        raise ProtocolError("no such board", Reason.NOT_ENROLLED)
    if known.revoked:
        raise ProtocolError("the board is revoked", Reason.ALREADY_KNOWN)
    # A height serves as the flag: it dates for how long evidence is still taken.
    revoked = replace(known, revoked=context.height)
    board_records.BOARDS.put(draft, revoked, body.device)
    draft.happen(BoardChanged(body.device))


def rotate(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Gives a board its next key; what it signed before still counts against it.

    Raises:
      ProtocolError: NOT_ENROLLED, NOT_AUTHORISED, ALREADY_KNOWN, BUSY, BAD_SIGNATURE
        or MALFORMED.
    """
    del identity
    body = ROTATE.unpack(envelope.body)
    board = require_board(draft, envelope, body.device)
    # Each rotation leaves an entry for ever, from which evidence finds the board.
    if board.rotations >= ROTATIONS_MAX:
        raise ProtocolError(f"{ROTATIONS_MAX} rotations at most", Reason.BUSY)
    _check_unused(draft, context, body.following)
    # The new key signs as well, else a board could take a stranger's key for its own.
    body.check(context.chain_id, envelope.sender)
    rotations = board.rotations + 1
    after = replace(board, public=body.following, rotations=rotations)
    board_records.BOARDS.put(draft, after, body.device)
    board_records.KEY_OWNERS.put(draft, body.device, body.following)
    draft.happen(BoardChanged(body.device))


def _check_unused(
    draft: StateOverlay, context: BlockContext, public: PublicKey
) -> None:
    """Refuses a key that somebody signs with: evidence must name one owner."""
    if board_records.in_use(draft, public):
        raise ProtocolError("the key is in use", Reason.ALREADY_KNOWN)
    _check_no_validator(draft, context, public)


def _check_no_validator(
    draft: StateOverlay, context: BlockContext, public: PublicKey
) -> None:
    """Refuses a key that still answers, or soon will, for what a validator signs."""
    if validator_set.answers(draft, context, device_id(public)):
        raise ProtocolError("the key is a validator's", Reason.ALREADY_KNOWN)
