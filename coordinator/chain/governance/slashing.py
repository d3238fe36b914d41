"""EVIDENCE: the signer of two conflicting messages loses its deposit.

Anyone may bring it: the signatures in it are what counts, and nothing costs anything
that signatures do not prove. A validator loses its whole deposit and never enters the
set again. A board loses a tenth and is jailed: it takes part again when both the blocks
and the time of its jail are over, by nobody's leave, and is excluded when it was
convicted `CONVICTIONS_MAX` times.

Whoever brings the evidence gets a tenth of what is lost, and the rest is burned: to
convict oneself never pays.
"""

from dataclasses import replace

from starling.coordinator.chain.governance import (
    chain_parameters,
    credit_accounts,
    expiry,
    validator_set,
)
from starling.coordinator.chain.governance.credit_accounts import Account
from starling.coordinator.chain.governance.permissions import check_operator
from starling.coordinator.chain.state import (
    board_records,
    task_records,
    validator_records,
)
from starling.coordinator.chain.state.board_records import (
    CONVICTIONS_MAX,
    ConvictionRecord,
)
from starling.coordinator.chain.state.overlay import (
    BlockContext,
    BoardChanged,
    StateOverlay,
)
from starling.coordinator.chain.state.state_table import StateReader
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.chain.credit_policy import RELEASE
from starling.protocol.chain.evidence import (
    AGE_VERSIONS_MAX,
    EVIDENCE,
    Conviction,
    convict,
)
from starling.protocol.chain.genesis import ValidatorSet
from starling.protocol.chain.governance import ChainParameter
from starling.protocol.errors import ProtocolError, Reason, StaleUpdate
from starling.protocol.ids import DeviceId, Digest
from starling.protocol.wire.envelope import Envelope

BOARD_SLASH_PERCENT = 10
FINDER_PERCENT = 10
FINDER_MAX = 1_000_000
"""Credits that the finder gets at most."""


def accuse(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
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
        lambda key: board_records.owner(draft, key),
    )
    offender = board_records.owner(draft, convicted.public)
    board = board_records.board(draft, offender)
    # Validators are convicted by a height, boards by a base; a stranger's updates hurt
    # nobody.
    if board is None and convicted.height is None:
        raise ProtocolError("the offender takes no part", Reason.NOT_ENROLLED)
    _check_age(draft, context, convicted, board)
    known = board_records.fault(draft, convicted.public)
    _check_new(context, convicted, board, known)
    places = (*(known.places if known else ()), convicted.place)
    fault = ConvictionRecord(evidence.offence, context.height, identity, places)
    # Under its first key, so that rotating does not shake a conviction off.
    board_records.CONVICTIONS.put(draft, fault, offender)
    finder = board_records.owner(draft, envelope.sender)
    # A validator is convicted once, and loses all of its deposit.
    if board is None:
        _slash(draft, offender, 100, finder)
        return
    last = len(places) == CONVICTIONS_MAX
    _slash(draft, offender, 100 if last else BOARD_SLASH_PERCENT, finder)
    jail_blocks = chain_parameters.parameter(
        draft, context.genesis, ChainParameter.JAIL_BLOCKS, context.height
    )
    until = context.height + jail_blocks
    jail_ms = chain_parameters.span_ms(
        draft, context.genesis, ChainParameter.JAIL_S, context.height
    )
    revoked = context.height if last and not board.revoked else board.revoked
    jailed_ms = context.time_ms + jail_ms
    after = replace(board, jailed=until, jailed_ms=jailed_ms, revoked=revoked)
    board_records.BOARDS.put(draft, after, offender)
    draft.happen(BoardChanged(offender))


def _validators_at(
    draft: StateOverlay, context: BlockContext, height: int
) -> ValidatorSet:
    oldest = expiry.evidence_from(draft, context)
    # A longer horizon does not bring back the sets that the last one let go.
    if height < max(oldest, validator_set.known_from(draft)):
        raise StaleUpdate(f"evidence of height {height}")
    return validator_records.validators(draft, context.genesis, height)


def is_within_age(tree: StateReader, task: int, base: int) -> bool:
    """True if evidence against a board is still valid for a task's base version."""
    head = task_records.head(tree, task)
    return head is None or head - base <= AGE_VERSIONS_MAX


def _check_age(
    draft: StateOverlay,
    context: BlockContext,
    convicted: Conviction,
    board: BoardRecord | None,
) -> None:
    if convicted.base is not None and not is_within_age(draft, *convicted.base):
        raise StaleUpdate(f"evidence of base {convicted.base[1]}")
    revoked = board.revoked if board is not None else 0
    if revoked and revoked < expiry.evidence_from(draft, context):
        # From now on its deposit may be given back.
        raise StaleUpdate(f"evidence against a board revoked at height {revoked}")


def _check_new(
    context: BlockContext,
    convicted: Conviction,
    board: BoardRecord | None,
    known: ConvictionRecord | None,
) -> None:
    if known is not None:
        free = board is not None and not _is_jailed(context, board)
        if not free or convicted.place in known.places:
            raise ProtocolError("the offender is convicted", Reason.ALREADY_KNOWN)
        # A place for each conviction is kept, and there are no more places than that.
        if len(known.places) >= CONVICTIONS_MAX:
            raise ProtocolError("the offender is excluded", Reason.ALREADY_KNOWN)


def _is_jailed(context: BlockContext, board: BoardRecord) -> bool:
    return board.is_jailed(context.height, context.time_ms)


def _slash(
    draft: StateOverlay, offender: DeviceId, percent: int, finder: DeviceId
) -> None:
    held = credit_accounts.account(draft, offender) or Account()
    lost = held.deposit * percent // 100
    if not lost:
        return
    after = replace(held, deposit=held.deposit - lost)
    credit_accounts.put_account(draft, offender, after)
    reward = min(lost * FINDER_PERCENT // 100, FINDER_MAX)
    # Without an account there is nothing to credit, and all of it is burned.
    if finder == offender or credit_accounts.account(draft, finder) is None:
        reward = 0
    if reward:
        credit_accounts.credit(draft, finder, reward)
    gone = credit_accounts.burned(draft) + lost - reward
    credit_accounts.BURNED.put(draft, gone)


def release(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Refunds the deposit of a participant that has left.

    Only when no evidence can reach what it signed; a board's goes to the operator that
    put it up, a validator's to its own account.

    Raises:
      ProtocolError: NOT_AUTHORISED, BUSY, INSUFFICIENT_FUNDS or MALFORMED.
    """
    del identity
    body = RELEASE.unpack(envelope.body)
    check_operator(draft, envelope)
    held = credit_accounts.account(draft, body.device)
    if held is None or not held.deposit:
        raise ProtocolError("no deposit", Reason.INSUFFICIENT_FUNDS)
    board = board_records.board(draft, body.device)
    if board is None:
        answers = validator_set.answers(draft, context, body.device)
    else:
        oldest = expiry.evidence_from(draft, context)
        answers = not board.revoked or board.revoked >= oldest
    if answers:
        raise ProtocolError("evidence may still come", Reason.BUSY)
    # Written before it is credited: the owner may be the same account.
    credit_accounts.put_account(draft, body.device, replace(held, deposit=0))
    owner = body.device if board is None else board.sponsor
    credit_accounts.credit(draft, owner, held.deposit)
