"""Lineage of a task out of a home: checked blocks, kept states, kept vectors."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from starling.coordinator.aggregation.strategy import ModelState, unpack_model
from starling.coordinator.chain.execution.block_builder import ChainHead
from starling.coordinator.chain.state import task_records
from starling.coordinator.lineage.lineage import FinalVersion, LineageReader
from starling.coordinator.lineage.version_trace import TracedLineage
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.lineage.kept_vectors import KeptVectors, VectorKeys
from starling.coordinator.runtime.setup.damage_recovery import audit_store
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.errors import ConfigError, OperationError
from starling.protocol.ids import DeviceId, Digest, TaskId, Version
from starling.protocol.learning.task import TaskSpec

Progress = Callable[[int], None]


class LineageSource:
    """A home's chain, opened to trace one of its tasks.

    Attributes:
      spec: The task.
    """

    def __init__(self, home: Path, task: int, progress: Progress) -> None:
        """Checks the whole chain on the way.

        Args:
          home: The coordinator's folder, or an exported one.
          task: The task's number.
          progress: Told each height that holds.

        Raises:
          ConfigError: If there is no chain, no such task, or no key.
          OperationError: If the chain does not hold.
          StorageError: If the disk refuses.
        """
        folder = CoordinatorHome(home)
        self._store = SqliteStore.read(folder.state / CHAIN_FILE)
        self._task = TaskId(task)
        spec = task_records.task(self._store, task)
        if spec is None:
            count = task_records.task_count(self._store)
            detail = f"there is no task {task}; the chain has {count}"
            raise ConfigError(detail, key="--task")
        self.spec: TaskSpec = spec
        reader = LineageReader(self._task)

        def observe(tip: ChainHead, changes: Mapping[bytes, bytes | None]) -> None:
            reader.observe(tip.height, changes, tip.tree)

        # Blame rests on what is read: nothing of a chain that was not checked from its
        # genesis on.
        found = audit_store(self._store, progress, observe)
        if found.fault is not None:
            raise OperationError(
                f"the chain does not hold at height {found.fault.height}: "
                f"{found.fault.detail}; see: starling chain verify"
            )
        self._versions = {each.version: each for each in reader.versions()}
        self._vectors = KeptVectors(VectorKeys(folder), self._store, spec)

    def close(self) -> None:
        """Lets go of the file."""
        self._store.close()

    @property
    def head(self) -> Version:
        """The newest final version."""
        return max(self._versions, default=Version(0))

    def first_with(self, boards: AbstractSet[DeviceId]) -> Version | None:
        """The first version that updates of some boards are in; None if none is."""
        for version in sorted(self._versions):
            job = self._versions[version].job
            if job is not None and any(each.board in boards for each in job.members):
                return version
        return None

    def bundle(self) -> bytes:
        """The task's packed bundle.

        Raises:
          OperationError: If it has not come here yet.
        """
        content = self._store.blob(self.spec.bundle)
        if content is None:
            raise OperationError("the task's bundle has not come here yet")
        return content

    def lineage(self, last: Version, first: Version | None = None) -> TracedLineage:
        """The longest lineage of a version that can be made again.

        Args:
          last: The version.
          first: The version to begin after; as early as possible by default.

        Raises:
          OperationError: If there is no such version, or too little is kept; it says
            what is.
        """
        if last not in self._versions or not last:
            raise OperationError(
                f"no updates made version {last}; the newest is {self.head}"
            )
        least = self._gapless_from(last)
        if first is not None and first < least:
            raise OperationError(
                f"vectors are kept of the versions after {least} only; "
                "storage.vectors_mib says how much is"
            )
        # The earliest kept state that all later vectors are kept for gives the longest
        # lineage.
        wanted = range(least if first is None else first, last + 1)
        for version in wanted:
            state = self._state(Version(version))
            if state is not None:
                steps = tuple(
                    self._versions[Version(number)]
                    for number in range(version + 1, last + 1)
                )
                return TracedLineage(
                    self.spec, Version(version), state, steps, self._vectors
                )
            if first is not None:
                break
        raise OperationError(
            f"no state is kept from which version {last} could be made again: vectors "
            f"are kept of the versions after {least}; see storage.vectors_mib and "
            "storage.versions_kept"
        )

    def _gapless_from(self, last: Version) -> Version:
        """The version after which all vectors up to a version are kept."""
        version = last
        while version and self._is_whole(self._versions.get(version)):
            version = Version(version - 1)
        return version

    def _is_whole(self, one: FinalVersion | None) -> bool:
        # No updates lead over a rollback: its bytes came with the motion.
        if one is None or one.rolled_back:
            return False
        return one.job is None or self._are_kept(
            [member.transaction for member in one.job.members]
        )

    def _are_kept(self, updates: Sequence[Digest]) -> bool:
        return all(self._store.has_upload(update) for update in updates)

    def _state(self, version: Version) -> ModelState | None:
        """The state of a version, if it is kept."""
        model = self.spec.initial
        if version:
            kept = self._store.model(self._task, version)
            if kept is None:
                return None
            model = kept
        parts = [
            self._store.blob(part)
            for part in (model.theta, model.momentum, model.average)
        ]
        theta, momentum, average = parts
        if theta is None or momentum is None or average is None:
            return None
        return unpack_model(theta, momentum, average)
