"""Records of rollbacks in the chain's state: versions that were made again."""

from starling.coordinator.chain.state.state_table import (
    NUMBER,
    StateReader,
    Table,
    by_number,
    by_task_and_number,
)
from starling.protocol.chain.task_rollback import ROLLBACK, TaskRollback
from starling.protocol.ids import DeviceId, Version

ROLLBACKS = Table(b"rollback/", by_task_and_number, ROLLBACK)
"""By task and version: the rollback that the version came from."""
NEWEST_ROLLBACKS = Table(b"rolled/", by_number, NUMBER)
"""By task: the newest version that came from a rollback."""


def rollback(tree: StateReader, number: int, version: int) -> TaskRollback | None:
    """The rollback that a version came from; None if updates made it."""
    return ROLLBACKS.get(tree, number, version)


def newest_rollback(tree: StateReader, number: int) -> Version:
    """The newest version of a task that came from a rollback; 0 without any."""
    return Version(NEWEST_ROLLBACKS.get(tree, number) or 0)


def left_out(
    tree: StateReader, number: int, version: int, head: int
) -> frozenset[DeviceId] | None:
    """Boards of a version without which the head descends from it.

    Args:
      tree: The state.
      number: The task.
      version: Which version, at most the head; each later one is looked up.
      head: The task's newest version.

    Returns:
      None if rollbacks undid the version, and the head does not descend from it.
    """
    without: set[DeviceId] = set()
    at = head
    while at > version:
        made = rollback(tree, number, at)
        if made is None:
            at -= 1
            continue
        if made.first < version:
            without.update(made.without)
        # Down the line of descent, past all versions that the rollback undid.
        at = made.again
    return frozenset(without) if at == version else None


def oldest_base(
    tree: StateReader, number: int, head: int, staleness_max: int
) -> Version:
    """The oldest version of a task that an update may still be based on.

    What was made from versions before a rollback carries what it left out.
    """
    return Version(max(0, head - staleness_max, newest_rollback(tree, number)))
