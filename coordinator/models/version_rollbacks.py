"""Versions that came from a rollback: said to people, and got like any other."""

import math
from dataclasses import replace

from starling.coordinator.chain.state import rollback_records
from starling.coordinator.models import pending_jobs
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.state import TaskState
from starling.protocol.ids import Version


def without_dropped_job(
    step: CoordinatorStep, task: TaskState, version: Version
) -> TaskState:
    """A task rid of a version's job, if a rollback dropped that.

    What was computed for it is of no use, and no sign of a machine that computes
    wrongly.
    """
    if rollback_records.rollback(step.state.ledger.tree, task.number, version) is None:
        return task
    return replace(
        pending_jobs.without(task, version),
        attested=None,
        job=None,
        computing=None,
        retry_at_s=math.inf,
    )


def sought(
    step: CoordinatorStep, task: TaskState, version: Version
) -> TaskState | None:
    """A task that seeks the chain's newest version, if that came from a rollback.

    The chain says what it consists of. Once others are further, the newest is sought
    as always: they may have let this one go.

    Returns:
      None if updates made the version, or the task seeks it already.
    """
    rolled = rollback_records.rollback(step.state.ledger.tree, task.number, version)
    if rolled is None or (task.sought == version and task.found is not None):
        return None
    step.report(
        f"task {task.number}: version {version} is version {rolled.again} made again "
        f"without {len(rolled.without)} boards from version {rolled.first} on, as a "
        "quorum of the validators decided",
        warns=True,
    )
    # Nobody has to be asked for its digests; only blobs may be missing.
    return replace(task, sought=version, found=rolled.model, missing=frozenset())
