"""Lineage of a task: which updates each final version was made of, as the chain says.

A job is gone from the state once its version is final. Who executes the blocks again
sees each job come and go, and has with it everything that a version was made of but the
vectors themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from starling.coordinator.chain.state import rollback_records, task_records
from starling.coordinator.chain.state.state_table import StateReader
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.protocol.ids import Digest, TaskId, Version


@dataclass(frozen=True)
class FinalVersion:
    """One version of a task.

    Attributes:
      version: Its number.
      digest: What its parameters, momentum and average hash to.
      height: Block that made it final; 0 if that was before the first executed block.
      job: What it was made of; None for version 0, for one that is the version before
        anew, and for one that came from a rollback.
      rolled_back: Whether it came from a rollback.
    """

    version: Version
    digest: Digest
    height: int
    job: AggregationJob | None
    rolled_back: bool = False


class LineageReader:
    """Watches blocks being executed, and keeps what became of a task's jobs."""

    def __init__(self, task: TaskId) -> None:
        """Has seen no block.

        Args:
          task: Whose versions are kept.
        """
        self._task = task
        self._jobs: dict[Version, AggregationJob] = {}
        self._versions: dict[Version, FinalVersion] = {}
        self._prefix = task_records.VERSIONS.prefix + b"%d/" % task

    def observe(
        self, height: int, changes: Mapping[bytes, bytes | None], after: StateReader
    ) -> None:
        """Looks at one executed block.

        Args:
          height: Its height; that before the first executed block comes first, with
            the state that it left, which may hold a job.
          changes: Of the state's keys; None removes one.
          after: The state after it.
        """
        for key in sorted(changes):
            value = changes[key]
            if value is not None and key.startswith(self._prefix):
                version = Version(int(key[len(self._prefix) :]))
                rolled = rollback_records.rollback(after, self._task, version)
                # An open job that a rollback dropped made no version.
                job = self._jobs.pop(version, None) if rolled is None else None
                self._versions[version] = FinalVersion(
                    version, Digest(value), height, job, rolled is not None
                )
        if not changes or task_records.JOBS.key(self._task) in changes:
            job = task_records.open_job(after, self._task)
            if job is not None:
                self._jobs[job.version] = job

    def versions(self) -> tuple[FinalVersion, ...]:
        """Versions that became final in the blocks that were seen, rising."""
        return tuple(self._versions[number] for number in sorted(self._versions))
