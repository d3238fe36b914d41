"""What becomes of a version's contributors once it is final.

    settled/<n>/<v>   `Settlement` of a version that may still be a base

`shares` is the whole reward rule. It pays everybody alike; contribution and reputation
are to weigh in there, and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.ledger import accounts, views
from coordinator.ledger.draft import Context, Draft
from coordinator.ledger.records import JobRecord
from protocol.codec import exactly, many, record, structure, uint
from protocol.economy import CREDITS_MAX
from protocol.ids import DEVICE_ID_BYTES, DeviceId
from protocol.task import BUFFER_MAX, TaskSpec


@dataclass(frozen=True)
class Payment:
    """What one update of a version earned."""

    board: DeviceId
    amount: int


@dataclass(frozen=True)
class Settlement:
    """A final version's updates, in the order of the chain.

    Attributes:
      height: Block that made the version final.
      payments: One per update; a board with two updates stands there twice.
    """

    height: int
    payments: tuple[Payment, ...]


SETTLEMENT = structure(
    Settlement,
    16 * 1024,
    uint(),
    many(record(Payment, exactly(DEVICE_ID_BYTES), uint(CREDITS_MAX)), BUFFER_MAX, 1),
)


def settlement_key(number: int, version: int) -> bytes:
    """Where a version's settlement stands."""
    return b"settled/%d/%d" % (number, version)


def settlement(tree: views.Reader, number: int, version: int) -> Settlement | None:
    """How a version was settled, while it may still be a base."""
    packed = tree.get(settlement_key(number, version))
    return None if packed is None else SETTLEMENT.unpack(packed)


def shares(amount: int, boards: Sequence[DeviceId]) -> tuple[int, ...]:
    """Divides a version's reward among its updates: equal, to the last credit.

    Args:
      amount: At least 0; all of it is given out.
      boards: Whose updates they are, in the order of the chain; not empty.

    Returns:
      One share per update. They differ by 1 at most; the earlier get what is left over.
    """
    each, left = divmod(amount, len(boards))
    return tuple(each + (place < left) for place in range(len(boards)))


def settle(
    draft: Draft, context: Context, number: int, spec: TaskSpec, job: JobRecord
) -> None:
    """Pays a version's updates from the task's pool, and notes it.

    The reward is the task's, or what its pool still has.
    """
    boards = []
    for place in job.places:
        entry = views.pending_at(draft, number, place)
        assert entry is not None, "a job's updates stand until its version is final"
        boards.append(entry.board)
    held = accounts.pool(draft, number)
    reward = min(spec.pool, held)
    payments = tuple(
        Payment(board, amount)
        for board, amount in zip(boards, shares(reward, boards), strict=True)
    )
    if reward:
        accounts.put_number(draft, accounts.pool_key(number), held - reward)
    for payment in payments:
        if payment.amount:
            accounts.credit(draft, payment.board, payment.amount)
    packed = SETTLEMENT.pack(Settlement(context.height, payments))
    draft.put(settlement_key(number, job.version), packed)
    oldest = job.version - spec.aggregation.staleness_max
    if oldest > 0:
        draft.put(settlement_key(number, oldest - 1), None)
