"""Rewards of a version's contributors once it is final.

    settled/<n>/<v>        `Settlement` of a version that may still be a base
    paid/<n>/<v>/<page>    `Payments` of `PAGE` updates, in the order of the chain

`shares` is the whole reward rule. It pays everybody alike; contribution and reputation
are to weigh in there, and nowhere else.
"""

from collections.abc import Sequence
from typing import Annotated

from starling.coordinator.chain.governance import credit_accounts
from starling.coordinator.chain.state import task_records
from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.coordinator.chain.state.state_table import (
    StateReader,
    Table,
    by_task_and_number,
    by_task_version_and_page,
)
from starling.coordinator.chain.state.task_records import JobRecord
from starling.protocol.chain.credit_policy import CREDITS_MAX
from starling.protocol.chain.payments import PAGE, PAYMENTS, Payment, Payments
from starling.protocol.ids import DeviceId
from starling.protocol.learning.task import BUFFER_MAX, TaskSpec
from starling.protocol.schema.msgpack_codec import (
    Structure,
    Uint,
    structure,
    uint,
)


class Settlement(Structure, frozen=True):
    """Settlement of a final version.

    Attributes:
      height: Block that made it final.
      time_ms: Of that block.
      updates: How many it was made of.
      reward: What all of them were paid together.
    """

    height: Uint
    time_ms: Uint
    updates: Annotated[int, uint(BUFFER_MAX, 1)]
    reward: Annotated[int, uint(CREDITS_MAX)]


SETTLEMENT = structure(Settlement, 64)
SETTLEMENTS = Table(b"settled/", by_task_and_number, SETTLEMENT)
"""By task and version: how it was settled, while it may be a base."""
PAYMENT_PAGES = Table(b"paid/", by_task_version_and_page, PAYMENTS)
"""By task, version and page: what its updates earned."""


def settlement(tree: StateReader, number: int, version: int) -> Settlement | None:
    """Settlement of a version, while it may still be a base."""
    return SETTLEMENTS.get(tree, number, version)


def payments(tree: StateReader, number: int, version: int) -> tuple[Payment, ...]:
    """Payments for each update of a version, in the order of the chain."""
    settled = settlement(tree, number, version)
    pages = _pages(settled.updates) if settled is not None else 0
    found: list[Payment] = []
    for page in range(pages):
        paid = PAYMENT_PAGES.get(tree, number, version, page)
        assert paid is not None, "pages stand as long as their settlement"
        found.extend(paid.made)
    return tuple(found)


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
    draft: StateOverlay,
    context: BlockContext,
    number: int,
    spec: TaskSpec,
    job: JobRecord,
) -> None:
    """Pays a version's updates from the task's pool, and notes it.

    The reward is the task's, or what its pool still has.
    """
    boards = []
    for place in job.places:
        entry = task_records.pending_at(draft, number, place)
        assert entry is not None, "a job's updates stand until its version is final"
        boards.append(entry.board)
    held = credit_accounts.pool(draft, number)
    reward = min(spec.pool, held)
    made = [
        Payment(board, amount)
        for board, amount in zip(boards, shares(reward, boards), strict=True)
    ]
    if reward:
        credit_accounts.POOLS.put(draft, held - reward, number)
        for payment in made:
            credit_accounts.credit(draft, payment.board, payment.amount)
    settled = Settlement(context.height, context.time_ms, len(made), reward)
    SETTLEMENTS.put(draft, settled, number, job.version)
    for page in range(_pages(len(made))):
        paid = Payments(tuple(made[page * PAGE : (page + 1) * PAGE]))
        PAYMENT_PAGES.put(draft, paid, number, job.version, page)


def forget(draft: StateOverlay, number: int, version: int) -> None:
    """Drops the settlement of a version that can be no base any more."""
    settled = settlement(draft, number, version)
    if settled is None:
        return
    SETTLEMENTS.drop(draft, number, version)
    for page in range(_pages(settled.updates)):
        PAYMENT_PAGES.drop(draft, number, version, page)


def _pages(updates: int) -> int:
    return -(-updates // PAGE)
