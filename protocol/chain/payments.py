"""Payments: credits that updates earned, kept in the chain's state and provable."""

from typing import Annotated

from starling.protocol.chain.credit_policy import CREDITS_MAX
from starling.protocol.ids import DeviceId
from starling.protocol.schema.msgpack_codec import Structure, many, structure, uint

PAGE = 256
"""Updates that stand under one key."""


class Payment(Structure, frozen=True):
    """Credits that one update of a version earned.

    Attributes:
      board: Whose update it is.
      amount: In credits; 0 if the task pays nothing.
    """

    board: DeviceId
    amount: Annotated[int, uint(CREDITS_MAX)]


class Payments(Structure, frozen=True):
    """Credits that up to `PAGE` updates of a version earned, in the chain's order."""

    made: Annotated[tuple[Payment, ...], many(PAGE, 1)]


PAYMENTS = structure(Payments, 8192)
