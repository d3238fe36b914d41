"""Rewards of a version's contributors once it is final.

    settled/<n>/<v>        `Settlement` of a version that may still be a base
    paid/<n>/<v>/<page>    `Payments` of `PAGE` updates, in the order of the chain

A task that shares its credits equally pays its updates here, when their version is
final. Where it shares them by contribution nothing is known of that yet:
`contribution_rewards` pays once the updates are scored.

Source: largest remainders, after Hamilton; see Balinski and Young, "Fair
Representation", 1982, chapter 3.
"""

from collections.abc import Iterable, Sequence
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
from starling.protocol.learning.reward_policy import RewardRule
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
      reward: Credits that left the task's pool for it.
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


def shares(amount: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Divides an amount in proportion to weights, to the last credit.

    Args:
      amount: At least 0; all of it is given out.
      weights: At least 0, and not all of them 0.

    Returns:
      One share per weight, less than one credit from its proportion. What rounding
      leaves goes to the largest remainders, of equal ones to the earlier.
    """
    total = sum(weights)
    quotients = [divmod(amount * weight, total) for weight in weights]
    left = amount - sum(whole for whole, _ in quotients)
    # Sorting is stable: of equal remainders the earlier update gets the credit.
    order = sorted(range(len(quotients)), key=lambda at: -quotients[at][1])
    favoured = set(order[:left])
    return tuple(whole + (at in favoured) for at, (whole, _) in enumerate(quotients))


def settle(
    draft: StateOverlay,
    context: BlockContext,
    number: int,
    spec: TaskSpec,
    job: JobRecord,
) -> None:
    """Pays a version's updates equally from the task's pool, and notes it.

    The reward is the task's, or what its pool still has; nothing yet where it is shared
    by contribution.
    """
    boards = []
    for place in job.places:
        entry = task_records.pending_at(draft, number, place)
        assert entry is not None, "a job's updates stand until its version is final"
        boards.append(entry.board)
    held = credit_accounts.pool(draft, number)
    # Settled all the same, since scores of the version are checked against it.
    waits = spec.rewards.rule == RewardRule.CONTRIBUTION
    reward = 0 if waits else min(spec.pool, held)
    if reward:
        credit_accounts.POOLS.put(draft, held - reward, number)
    settled = Settlement(context.height, context.time_ms, len(boards), reward)
    amounts = shares(reward, [1] * len(boards))
    pay(draft, number, job.version, settled, zip(boards, amounts, strict=True))


def pay(
    draft: StateOverlay,
    number: int,
    version: int,
    settled: Settlement,
    amounts: Iterable[tuple[DeviceId, int]],
) -> None:
    """Credits what a version's updates earned, and notes it in place of what was noted.

    Args:
      draft: The state; the caller took the credits from elsewhere.
      number: The task.
      version: Of whose updates.
      settled: The version's settlement.
      amounts: For each update, in the order of the chain, its board and its credits.
    """
    made = [Payment(board, amount) for board, amount in amounts]
    for payment in made:
        if payment.amount:
            credit_accounts.credit(draft, payment.board, payment.amount)
    SETTLEMENTS.put(draft, settled, number, version)
    for page in range(_pages(len(made))):
        paid = Payments(tuple(made[page * PAGE : (page + 1) * PAGE]))
        PAYMENT_PAGES.put(draft, paid, number, version, page)


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
