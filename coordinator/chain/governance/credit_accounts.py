"""Credit accounts, and transfers between accounts, pools and the treasury.

    account/<id>     `Account` of a board, a validator or an operator
    treasury         what nobody has yet; operators FUND pools from it
    burned           what was slashed and is gone
    pool/<n>         what is left to pay for task n's versions

Nothing here makes or loses a credit: treasury, burned, pools, what tasks set aside,
balances and deposits add up to the genesis's supply after every block. A chain without
credits has no such keys.
"""

from dataclasses import replace
from typing import Annotated

from starling.coordinator.chain.governance.permissions import check_operator
from starling.coordinator.chain.state import (
    board_records,
    closure_records,
    task_records,
)
from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.coordinator.chain.state.state_table import (
    NUMBER,
    StateReader,
    StateWriter,
    Table,
    alone,
    by_identity,
    by_number,
    count,
)
from starling.protocol.chain.credit_policy import CREDITS_MAX, FUND, TRANSFER
from starling.protocol.chain.genesis import Genesis
from starling.protocol.errors import ProtocolError, Reason, ReplayError
from starling.protocol.ids import DeviceId, Digest, device_id
from starling.protocol.schema.msgpack_codec import Structure, Uint, structure, uint
from starling.protocol.wire.envelope import Envelope


class Account(Structure, frozen=True):
    """Credits of one identity.

    Attributes:
      balance: Free to transfer.
      deposit: At stake.
      counter: Of the last envelope that moved credits: each moves them once.
    """

    balance: Annotated[int, uint(CREDITS_MAX)] = 0
    deposit: Annotated[int, uint(CREDITS_MAX)] = 0
    counter: Uint = 0


ACCOUNT = structure(Account, 64)
ACCOUNTS = Table(b"account/", by_identity, ACCOUNT)
"""By id of an operator, a board or a validator."""
TREASURY = Table(b"treasury", alone, NUMBER)
BURNED = Table(b"burned", alone, NUMBER)
POOLS = Table(b"pool/", by_number, NUMBER)
"""By task."""


def account(tree: StateReader, identity: bytes) -> Account | None:
    """An identity's account, if it has one."""
    return ACCOUNTS.get(tree, identity)


def treasury(tree: StateReader) -> int:
    """Credits that nobody has yet."""
    return count(tree, TREASURY)


def burned(tree: StateReader) -> int:
    """Credits that are gone."""
    return count(tree, BURNED)


def pool(tree: StateReader, number: int) -> int:
    """Credits that are left to pay for a task's versions."""
    return POOLS.get(tree, number) or 0


def put_genesis(draft: StateWriter, genesis: Genesis) -> None:
    """Write the accounts and the treasury before the first block."""
    economy = genesis.economy
    if not economy.supply:
        return
    granted = {
        device_id(key): Account(balance=economy.operator_grant)
        for key in genesis.operators
    }
    for member in genesis.validators.members:
        # One key may be an operator's and a validator's, and has one account for both.
        identity = device_id(member.public)
        given = granted.get(identity, Account())
        granted[identity] = replace(given, deposit=economy.validator_deposit)
    spent = sum(each.balance + each.deposit for each in granted.values())
    for identity in sorted(granted):
        ACCOUNTS.put(draft, granted[identity], identity)
    TREASURY.put(draft, economy.supply - spent)


def fund(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Moves credits from the treasury into a task's pool.

    Raises:
      ProtocolError: NOT_AUTHORISED, UNKNOWN_TASK, CLOSED, REPLAYED,
        INSUFFICIENT_FUNDS or MALFORMED.
    """
    del context, identity
    body = FUND.unpack(envelope.body)
    check_operator(draft, envelope)
    if task_records.head(draft, body.task) is None:
        raise ProtocolError(f"no task {body.task}", Reason.UNKNOWN_TASK)
    closed = closure_records.closure(draft, body.task)
    if closed is not None:
        raise ProtocolError(f"task {body.task} was {closed.text}", Reason.CLOSED)
    count_envelope(draft, envelope)
    left = treasury(draft)
    _require(left, body.amount, "the treasury")
    TREASURY.put(draft, left - body.amount)
    POOLS.put(draft, pool(draft, body.task) + body.amount, body.task)


def transfer(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Moves credits to another account.

    Raises:
      ProtocolError: NOT_ENROLLED, if there is no such recipient; NOT_AUTHORISED, for a
        key that its board no longer has; REPLAYED, INSUFFICIENT_FUNDS or MALFORMED.
    """
    del context, identity
    body = TRANSFER.unpack(envelope.body)
    sender = count_envelope(draft, envelope)
    recipient = body.recipient
    known = account(draft, recipient)
    # A registered board has no account before it gets its first credits.
    if known is None and board_records.board(draft, recipient) is None:
        raise ProtocolError("no such recipient", Reason.NOT_ENROLLED)
    # Each reads the account afresh, since sender and recipient may be one.
    debit(draft, sender, body.amount)
    credit(draft, recipient, body.amount)


def debit(draft: StateOverlay, identity: bytes, amount: int) -> None:
    """Takes credits from a balance.

    Raises:
      ProtocolError: INSUFFICIENT_FUNDS.
    """
    held = account(draft, identity) or Account()
    _require(held.balance, amount, "the account")
    put_account(draft, identity, replace(held, balance=held.balance - amount))


def credit(draft: StateOverlay, identity: bytes, amount: int) -> None:
    """Adds credits to a balance; the caller took them from elsewhere."""
    held = account(draft, identity) or Account()
    put_account(draft, identity, replace(held, balance=held.balance + amount))


def open_account(draft: StateOverlay, context: BlockContext, identity: bytes) -> None:
    """Lets an identity receive credits, on a chain that has any."""
    if context.genesis.economy.supply and account(draft, identity) is None:
        put_account(draft, identity, Account())


def put_account(draft: StateOverlay, identity: bytes, held: Account) -> None:
    """Writes an account."""
    ACCOUNTS.put(draft, held, identity)


def count_envelope(draft: StateOverlay, envelope: Envelope) -> DeviceId:
    """Lets each envelope of an account count once; returns whose it is.

    Raises:
      ProtocolError: NOT_AUTHORISED, for a key that its board no longer has; REPLAYED.
    """
    # A board's account goes by its first key, whatever it signs with.
    identity = board_records.owner(draft, envelope.sender)
    board = board_records.board(draft, identity)
    if board is not None and board.public != envelope.sender:
        raise ProtocolError("the board has another key", Reason.NOT_AUTHORISED)
    held = account(draft, identity) or Account()
    if envelope.counter <= held.counter:
        raise ReplayError(f"counter {envelope.counter}, the last was {held.counter}")
    put_account(draft, identity, replace(held, counter=envelope.counter))
    return identity


def _require(held: int, amount: int, whose: str) -> None:
    if held < amount:
        raise ProtocolError(
            f"{whose} has {held} of {amount} credits", Reason.INSUFFICIENT_FUNDS
        )
