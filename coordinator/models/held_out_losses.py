"""Held-out losses of final versions: stated to the chain, and said when they got worse.

The chain decides what counts (`coordinator.chain.tasks.evaluations`); here a trial's
loss becomes our statement, and what a quorum's median means is said to people.
"""

from typing import Any

from starling.coordinator.boards import finality_proofs, lease_grants
from starling.coordinator.chain.chain_step import ChainState
from starling.coordinator.chain.state.overlay import LossKnown, TaskResumed
from starling.coordinator.chain.state.state_table import StateReader
from starling.coordinator.chain.tasks import evaluations
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import StoreMetrics
from starling.coordinator.step.events import VersionEvaluated
from starling.coordinator.step.state import TaskState
from starling.protocol.learning.progress_guard import (
    Evaluation,
    is_paused,
    loss_micro,
    newest_is_worse,
    patience_with,
    paused_text,
    worse_text,
)


def evaluated(step: CoordinatorStep, event: VersionEvaluated) -> Evaluation | None:
    """Keeps what a trial gave, and says it.

    Returns:
      What to state to the chain; None if we are no validator or stated it before.
    """
    # Asked for now: some 250 versions later the state knows this one no more.
    proof = finality_proofs.version(step.state.ledger, event.task, event.version)
    step.emit(
        StoreMetrics(event.task, event.version, event.accuracy, event.loss, proof)
    )
    found = f"loss {event.loss:.4f}"
    if event.accuracy is not None:
        found = f"accuracy {100 * event.accuracy:.2f} %, {found}"
    step.report(f"task {event.task}: version {event.version} has {found}")
    ledger = step.state.ledger
    # The chain takes statements of validators alone.
    if ledger.validator.index is None:
        return None
    own = step.settings.ledger.key.public
    # After a restart the same version may be evaluated again.
    known = evaluations.LOSSES.get(ledger.tree, event.task, event.version)
    if known is not None:
        stated = any(each.validator == own for each in known.stated)
        # Once a quorum's median is fixed the chain would refuse another loss as STALE.
        if stated or known.median is not None:
            return None
    return Evaluation(event.task, event.version, loss_micro(event.loss))


def loss_known(step: CoordinatorStep, known: LossKnown) -> None:
    """Says that a version is worse than the best one, or that the task pauses."""
    task = step.state.tasks.get(known.task)
    record = evaluations.task_loss(step.state.ledger.tree, known.task)
    if task is None or record is None or record.newest != known.version:
        # Of a task that is not opened here yet, or of an older version: old news.
        return
    guard = task.spec.guard
    if is_paused(guard, record):
        step.report(f"task {task.number} {paused_text(guard, record)}", warns=True)
    elif newest_is_worse(guard, record):
        text = f"task {task.number} got worse: {worse_text(record)}"
        step.report(text, warns=True)


def task_resumed(step: CoordinatorStep, resumed: TaskResumed) -> None:
    """Lets boards train again."""
    task = step.state.tasks.get(resumed.task)
    if task is not None:
        step.report(f"task {task.number} goes on: an operator resumed it")
        # Boards that asked during the pause still wait in the queue.
        lease_grants.grant_free(step, task)


def evaluators(ledger: ChainState, task: TaskState) -> dict[str, Any]:
    """Coordinators that watch a task, for status.

    Returns:
      `found`, how many coordinators stated losses of its last versions; `needed`, how
      many make a quorum; `relied_on`, whether the task pauses or ends by their losses.
    """
    spec = task.spec
    return {
        "found": evaluations.evaluators(ledger.tree, task.number),
        "needed": ledger.validator.quorum,
        "relied_on": spec.guard.patience > 0 or spec.end.loss_micro > 0,
    }


def shown(tree: StateReader, task: TaskState) -> dict[str, Any] | None:
    """A task's held-out losses for status and report; None before a quorum's first.

    Returns:
      `best` and `newest` versions, their losses, `worse_by` as a share of the best
      loss, whether the newest `is_worse`, whether the task is `paused`, `patience`, and
      a `text` for people that is empty while all is well.
    """
    known, guard = evaluations.task_loss(tree, task.number), task.spec.guard
    if known is None:
        return None
    paused, worse = is_paused(guard, known), newest_is_worse(guard, known)
    text = f"got worse: {worse_text(known)}" if worse else ""
    above = known.newest_micro - known.best_micro
    return {
        "best": known.best,
        "best_loss": known.best_micro / 1e6,
        "newest": known.newest,
        "newest_loss": known.newest_micro / 1e6,
        "worse_by": above / known.best_micro if known.best_micro else None,
        "is_worse": worse,
        "paused": paused,
        "patience": patience_with(guard, known),
        "text": paused_text(guard, known) if paused else text,
    }
