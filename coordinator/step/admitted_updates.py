"""Updates that were admitted and are not in the chain yet, counted by task."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from starling.protocol.ids import Digest, TaskId, Version
from starling.protocol.persistent_map import PersistentMap
from starling.protocol.wire.envelope import Envelope


@dataclass(frozen=True)
class AdmittedUpdate:
    """An update that was admitted and is not in the chain yet.

    Attributes:
      transaction: Its id.
      base: Its base version.
      task: Its task.
      at_s: When we admitted it.
      update: The signed update.
    """

    transaction: Digest
    base: Version
    task: TaskId
    at_s: float
    update: Envelope


@dataclass(frozen=True)
class AdmittedUpdates:
    """All of them; never changed, only followed by others.

    Attributes:
      by_key: By `admitted_key`.
      counts: How many there are of each task that has any.
    """

    by_key: PersistentMap[AdmittedUpdate] = field(default_factory=PersistentMap)
    counts: Mapping[TaskId, int] = field(default_factory=dict)

    def get(self, key: bytes) -> AdmittedUpdate | None:
        """The one under a key, or None."""
        return self.by_key.get(key)

    def put(self, key: bytes, update: AdmittedUpdate) -> "AdmittedUpdates":
        """With one more; a key's earlier one goes."""
        counts = _changed(self.without(key).counts, update.task, 1)
        return AdmittedUpdates(self.by_key.put(key, update), counts)

    def without(self, key: bytes) -> "AdmittedUpdates":
        """Without the one under a key; the same ones if it has none."""
        known = self.by_key.get(key)
        if known is None:
            return self
        counts = _changed(self.counts, known.task, -1)
        return AdmittedUpdates(self.by_key.without(key), counts)

    def items(self) -> Iterator[tuple[bytes, AdmittedUpdate]]:
        """All with their keys, sorted by key."""
        return self.by_key.items()

    def of_task(self, task: TaskId) -> int:
        """Number of those of a task."""
        return self.counts.get(task, 0)

    def __len__(self) -> int:
        """Number of all."""
        return self.by_key.size


def admitted_key(device: bytes, task: int, base: int) -> bytes:
    """Key of an admitted update, by board and base version."""
    return device + task.to_bytes(4) + base.to_bytes(8)


def _changed(counts: Mapping[TaskId, int], task: TaskId, by: int) -> dict[TaskId, int]:
    count = counts.get(task, 0) + by
    others = {number: each for number, each in counts.items() if number != task}
    return {**others, task: count} if count else others
