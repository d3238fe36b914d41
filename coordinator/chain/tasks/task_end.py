"""Tasks that grant no more leases: paused, since the loss falls no more, or ended."""

from starling.coordinator.chain.governance import credit_accounts
from starling.coordinator.chain.state import closure_records, task_records
from starling.coordinator.chain.state.state_table import StateReader
from starling.coordinator.chain.tasks import evaluations
from starling.protocol.learning.end_policy import ended_text
from starling.protocol.learning.progress_guard import is_paused, paused_text


def ended(tree: StateReader, number: int, time_ms: int) -> str:
    """Reason for which a task has ended; empty if it goes on.

    Args:
      tree: The state.
      number: The task.
      time_ms: Of the newest header, in Unix milliseconds.
    """
    spec, head = task_records.task(tree, number), task_records.head(tree, number)
    if spec is None or head is None:
        return ""
    known, pool = (
        evaluations.task_loss(tree, number),
        credit_accounts.pool(tree, number),
    )
    return ended_text(spec.end, head, time_ms, known, pool)


def is_over(tree: StateReader, number: int, time_ms: int) -> bool:
    """True if a task was closed or has ended; see `ended`."""
    closed = closure_records.closure(tree, number) is not None
    return closed or bool(ended(tree, number, time_ms))


def rests(tree: StateReader, number: int, time_ms: int) -> str:
    """Reason for which nobody may train for a task now; empty if boards may."""
    spec, known = task_records.task(tree, number), evaluations.task_loss(tree, number)
    if spec is not None and known is not None and is_paused(spec.guard, known):
        return paused_text(spec.guard, known)
    return ended(tree, number, time_ms)
