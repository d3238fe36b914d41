"""Credits: what the genesis says of them, and what moves them.

All credits that there will ever be are in the genesis. They lie in the treasury, in
accounts, in deposits or in the pools of tasks, or were burned; nothing makes new ones.
"""

from typing import Annotated

from starling.protocol.ids import DeviceId, TaskId
from starling.protocol.schema.msgpack_codec import Structure, structure, uint

CREDITS_MAX = 1 << 62
"""Sums of two amounts still fit the wire."""


class CreditPolicy(Structure, frozen=True):
    """Credits that the genesis grants and prices; all zero disables them.

    Attributes:
      supply: All credits.
      operator_grant: What each operator of the genesis begins with.
      validator_deposit: What each validator of the genesis has at stake.
      board_deposit: What an operator puts at stake for each board that it registers.
    """

    supply: Annotated[int, uint(CREDITS_MAX)] = 0
    operator_grant: Annotated[int, uint(CREDITS_MAX)] = 0
    validator_deposit: Annotated[int, uint(CREDITS_MAX)] = 0
    board_deposit: Annotated[int, uint(CREDITS_MAX)] = 0


NO_ECONOMY = CreditPolicy()


class Fund(Structure, frozen=True):
    """FUND: an operator moves credits from the treasury into a task's pool."""

    task: TaskId
    amount: Annotated[int, uint(CREDITS_MAX, 1)]


FUND = structure(Fund, 32)


class Transfer(Structure, frozen=True):
    """TRANSFER: the sender's credits become another account's.

    Attributes:
      recipient: Id of a board, a validator or an operator.
      amount: At least 1.
    """

    recipient: DeviceId
    amount: Annotated[int, uint(CREDITS_MAX, 1)]


TRANSFER = structure(Transfer, 32)


class Use(Structure, frozen=True):
    """USE: an operator pays a task's contributors for the use of its model.

    Attributes:
      task: Whose model is served.
      reading: Uses that the operator's meter shows, all in all; it only rises.
    """

    task: TaskId
    reading: Annotated[int, uint(least=1)]


USE = structure(Use, 16)


class DepositRefund(Structure, frozen=True):
    """RELEASE: the deposit of somebody who left long ago goes back.

    Attributes:
      device: Id of the board or validator.
    """

    device: DeviceId


RELEASE = structure(DepositRefund, 32)
