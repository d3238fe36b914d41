"""Versions that came from a rollback: said to people, and got like any other."""

import math
from dataclasses import replace

from starling.coordinator.chain.state import rollback_records
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.state import TaskState
from starling.protocol.ids import Version


def sought(
    turn: CoordinatorStep, task: TaskState, version: Version
) -> TaskState | None:
    """A task that seeks the version after its own, if that came from a rollback.

    The chain says what it consists of. What was computed for the job that the rollback
    dropped is of no use, and no sign of a machine that computes wrongly.

    Returns:
      None if updates made the version, or the task seeks it already.
    """
    rolled = rollback_records.rollback(turn.state.ledger.tree, task.number, version)
    if rolled is None or (task.sought == version and task.found is not None):
        return None
    turn.report(
        f"task {task.number}: version {version} is version {rolled.again} made again "
        f"without {len(rolled.without)} boards from version {rolled.first} on, as a "
        "quorum of the validators decided",
        warns=True,
    )
    return replace(
        task,
        sought=version,
        found=rolled.model,
        lacking=frozenset(),
        attested=None,
        job=None,
        computing=None,
        retry_at_s=math.inf,
    )
