"""EVIDENCE: who provably signed two things that exclude each other pays for it.

Anyone may bring it: the signatures in it are what counts, and nothing costs anything
that signatures do not prove. A validator loses its whole deposit and never enters the
set again. A board loses a tenth and is jailed: it takes part again after its time and
its own UNJAIL, and is excluded when it was convicted `CONVICTIONS_MAX` times.

Whoever brings the evidence gets a tenth of what is lost, and the rest is burned: to
convict oneself never pays.
"""

from dataclasses import replace

from coordinator.ledger import accounts, layout, parameters, validators, views
from coordinator.ledger.accounts import Account
from coordinator.ledger.authority import check_operator, require_board
from coordinator.ledger.draft import BoardChanged, Context, Draft
from coordinator.ledger.records import (
    BOARD,
    CONVICTIONS_MAX,
    FAULT,
    Fault,
)
from protocol.economy import RELEASE, UNJAIL
from protocol.envelope import Envelope
from protocol.errors import ProtocolError, Reason, StaleUpdate
from protocol.evidence import (
    AGE_HEIGHTS_MAX,
    AGE_VERSIONS_MAX,
    EVIDENCE,
    Conviction,
    convict,
)
from protocol.genesis import ValidatorSet
from protocol.ids import DeviceId, Digest
from protocol.motion import Parameter
from protocol.statement import Board, board_key

BOARD_SLASH_PERCENT = 10
FINDER_PERCENT = 10
FINDER_MAX = 1_000_000
"""Credits that the finder gets at most."""


def accuse(
    draft: Draft, context: Context, envelope: Envelope, identity: Digest
) -> None:
    """Convicts the offender, once for each thing that it contradicted itself about.

    Raises:
      ProtocolError: ALREADY_KNOWN, NOT_ENROLLED, STALE, INVALID_PROOF, BAD_SIGNATURE or
        MALFORMED.
    """
    evidence = EVIDENCE.unpack(envelope.body)
    convicted = convict(
        evidence,
        context.chain_id,
        lambda height: _validators_at(draft, context, height),
        lambda key: views.owner(draft, key),
    )
    offender = views.owner(draft, convicted.public)
    board = views.board(draft, offender)
    if board is None and convicted.height is None:
        raise ProtocolError("the offender takes no part", Reason.NOT_ENROLLED)
    _check_age(draft, context, convicted, board)
    known = views.fault(draft, convicted.public)
    _check_new(convicted, board, known)
    places = (*(known.places if known else ()), convicted.place)
    fault = Fault(evidence.offence, context.height, identity, places)
    draft.put(layout.fault_key(offender), FAULT.pack(fault))
    finder = views.owner(draft, envelope.sender)
    if board is None:
        _slash(draft, offender, 100, finder)
        return
    last = len(places) == CONVICTIONS_MAX
    _slash(draft, offender, 100 if last else BOARD_SLASH_PERCENT, finder)
    jail_blocks = parameters.parameter(
        draft, context.genesis, Parameter.JAIL_BLOCKS, context.height
    )
    until = context.height + jail_blocks
    revoked = context.height if last and not board.revoked else board.revoked
    after = replace(board, jailed=until, revoked=revoked)
    draft.put(board_key(offender), BOARD.pack(after))
    draft.happen(BoardChanged(offender))


def _validators_at(draft: Draft, context: Context, height: int) -> ValidatorSet:
    if context.height - height > AGE_HEIGHTS_MAX:
        raise StaleUpdate(f"evidence of height {height}")
    return views.validators(draft, context.genesis, height)


def reaches(tree: views.Reader, task: int, base: int) -> bool:
    """Whether evidence against a board is still taken of a task's base version."""
    head = views.head(tree, task)
    return head is None or head - base <= AGE_VERSIONS_MAX


def _check_age(
    draft: Draft, context: Context, convicted: Conviction, board: Board | None
) -> None:
    if convicted.base is not None and not reaches(draft, *convicted.base):
        raise StaleUpdate(f"evidence of base {convicted.base[1]}")
    revoked = board.revoked if board is not None else 0
    if revoked and context.height - revoked > AGE_HEIGHTS_MAX:
        # From now on its deposit may be given back.
        raise StaleUpdate(f"evidence against a board revoked at height {revoked}")


def _check_new(convicted: Conviction, board: Board | None, known: Fault | None) -> None:
    if known is not None:
        free = board is not None and not board.jailed
        if not free or convicted.place in known.places:
            raise ProtocolError("the offender is convicted", Reason.ALREADY_KNOWN)
        if len(known.places) >= CONVICTIONS_MAX:
            raise ProtocolError("the offender is excluded", Reason.ALREADY_KNOWN)


def _slash(draft: Draft, offender: DeviceId, percent: int, finder: DeviceId) -> None:
    held = accounts.account(draft, offender) or Account()
    lost = held.deposit * percent // 100
    if not lost:
        return
    after = replace(held, deposit=held.deposit - lost)
    accounts.put_account(draft, offender, after)
    reward = min(lost * FINDER_PERCENT // 100, FINDER_MAX)
    if finder == offender or accounts.account(draft, finder) is None:
        reward = 0
    if reward:
        accounts.credit(draft, finder, reward)
    gone = accounts.burned(draft) + lost - reward
    accounts.put_number(draft, accounts.BURNED_KEY, gone)


def unjail(
    draft: Draft, context: Context, envelope: Envelope, identity: Digest
) -> None:
    """Lets a board take part again whose time is over.

    Raises:
      ProtocolError: NOT_ENROLLED, NOT_AUTHORISED, JAILED, ALREADY_KNOWN, if it is not
        jailed, or MALFORMED.
    """
    del identity
    body = UNJAIL.unpack(envelope.body)
    board = require_board(draft, envelope, body.device)
    if not board.jailed:
        raise ProtocolError("the board is free", Reason.ALREADY_KNOWN)
    if context.height <= board.jailed:
        raise ProtocolError(f"jailed until height {board.jailed}", Reason.JAILED)
    draft.put(board_key(body.device), BOARD.pack(replace(board, jailed=0)))
    draft.happen(BoardChanged(body.device))


def release(
    draft: Draft, context: Context, envelope: Envelope, identity: Digest
) -> None:
    """Gives the deposit of somebody back who takes part no more.

    Only when no evidence can reach what it signed; a board's goes to the operator that
    put it up, a validator's to its own account.

    Raises:
      ProtocolError: NOT_AUTHORISED, BUSY, INSUFFICIENT_FUNDS or MALFORMED.
    """
    del identity
    body = RELEASE.unpack(envelope.body)
    check_operator(draft, envelope)
    held = accounts.account(draft, body.device)
    if held is None or not held.deposit:
        raise ProtocolError("no deposit", Reason.INSUFFICIENT_FUNDS)
    board = views.board(draft, body.device)
    if board is None:
        answers = validators.answers(draft, context, body.device)
    else:
        since = context.height - board.revoked
        answers = not board.revoked or since <= AGE_HEIGHTS_MAX
    if answers:
        raise ProtocolError("evidence may still come", Reason.BUSY)
    accounts.put_account(draft, body.device, replace(held, deposit=0))
    owner = body.device if board is None else board.sponsor
    accounts.credit(draft, owner, held.deposit)
