"""Credits: what the genesis says of them, and what moves them.

All credits that there will ever be are in the genesis. They lie in the treasury, in
accounts, in deposits or in the pools of tasks, or were burned; nothing makes new ones.
"""

from dataclasses import dataclass

from starling.protocol.ids import DEVICE_ID_BYTES, DeviceId, TaskId
from starling.protocol.schema.msgpack_codec import exactly, record, structure, uint
from starling.protocol.wire.message_bodies import TASKS_MAX

CREDITS_MAX = 1 << 62
"""Sums of two amounts still fit the wire."""
_CREDITS = uint(CREDITS_MAX)


@dataclass(frozen=True)
class CreditPolicy:
    """What the genesis says of credits; all zero is a chain without any.

    Attributes:
      supply: All credits.
      operator_grant: What each operator of the genesis begins with.
      validator_deposit: What each validator of the genesis has at stake.
      board_deposit: What an operator puts at stake for each board that it registers.
    """

    supply: int = 0
    operator_grant: int = 0
    validator_deposit: int = 0
    board_deposit: int = 0


ECONOMY_SCHEMA = record(CreditPolicy, _CREDITS, _CREDITS, _CREDITS, _CREDITS)
NO_ECONOMY = CreditPolicy()


@dataclass(frozen=True)
class Fund:
    """FUND: an operator moves credits from the treasury into a task's pool."""

    task: TaskId
    amount: int


FUND = structure(Fund, 32, uint(TASKS_MAX), uint(CREDITS_MAX, 1))


@dataclass(frozen=True)
class Transfer:
    """TRANSFER: the sender's credits become another account's.

    Attributes:
      recipient: Id of a board, a validator or an operator.
      amount: At least 1.
    """

    recipient: DeviceId
    amount: int


TRANSFER = structure(Transfer, 32, exactly(DEVICE_ID_BYTES), uint(CREDITS_MAX, 1))


@dataclass(frozen=True)
class DepositRefund:
    """RELEASE: the deposit of somebody who left long ago goes back.

    Attributes:
      device: Id of the board or validator.
    """

    device: DeviceId


RELEASE = structure(DepositRefund, 32, exactly(DEVICE_ID_BYTES))
