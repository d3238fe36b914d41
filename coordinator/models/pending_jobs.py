"""The jobs that the chain cut and we have not computed, as far as they are kept.

A job is gone from the chain's state once its version is final. Whoever is slower than a
quorum keeps the latest ones, so that it can still compute them and say what it got.
"""

from dataclasses import replace

from starling.coordinator.chain.state import task_records
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.state import TaskState
from starling.protocol.ids import Version

KEPT = 8
"""How far behind we still compute versions that others made final."""


def note(step: CoordinatorStep, task: TaskState) -> TaskState:
    """Keeps the open job, which is gone from the state once its version is final."""
    record = task_records.job_record(step.state.ledger.tree, task.number)
    if record is None or (task.job and task.job.version == record.version):
        return task
    # Versions rise, so that the last one tells whether it is kept.
    if task.cut and task.cut[-1].version >= record.version:
        return task
    job = task_records.open_job(step.state.ledger.tree, task.number)
    if job is not None:
        task = replace(task, cut=(*task.cut, job)[-KEPT:])
        step.put_task(task)
    return task


def kept(task: TaskState, version: Version) -> AggregationJob | None:
    """A version's job, if it is kept."""
    return next((job for job in task.cut if job.version == version), None)


def without(task: TaskState, version: Version) -> TaskState:
    """Keeps no job up to a version any longer."""
    return replace(task, cut=tuple(job for job in task.cut if job.version > version))


def statistics(job: AggregationJob | None, version: Version) -> tuple[int, int]:
    """Number of updates in a version, and their mean staleness in thousandths."""
    if job is None or job.version != version:
        return 0, 0
    staleness = [job.version - 1 - member.base for member in job.members]
    return len(staleness), 1000 * sum(staleness) // len(staleness)
