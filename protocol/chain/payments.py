"""What updates earned, as it stands in the chain's state and can be proven."""

from dataclasses import dataclass

from starling.protocol.chain.credit_policy import CREDITS_MAX
from starling.protocol.ids import DEVICE_ID_BYTES, DeviceId
from starling.protocol.schema.msgpack_codec import (
    exactly,
    many,
    record,
    structure,
    uint,
)

PAGE = 256
"""Updates that stand under one key."""


@dataclass(frozen=True)
class Payment:
    """What one update of a version earned.

    Attributes:
      board: Whose update it is.
      amount: In credits; 0 if the task pays nothing.
    """

    board: DeviceId
    amount: int


@dataclass(frozen=True)
class Payments:
    """What up to `PAGE` updates of a version earned, in the order of the chain."""

    made: tuple[Payment, ...]


PAYMENTS = structure(
    Payments,
    8192,
    many(record(Payment, exactly(DEVICE_ID_BYTES), uint(CREDITS_MAX)), PAGE, 1),
)
