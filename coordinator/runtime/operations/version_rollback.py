"""A version made again without some boards' updates, for a rollback."""

from collections.abc import Sequence
from dataclasses import dataclass

from starling.coordinator.aggregation.strategy import PackedModel, pack_model
from starling.coordinator.lineage.lineage_replay import (
    check_exact,
    replay,
    replayed_state,
)
from starling.coordinator.runtime import command_inbox
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.lineage.lineage_source import (
    LineageSource,
)
from starling.protocol.chain.task_rollback import WITHOUT_MAX, TaskRollback
from starling.protocol.errors import ConfigError, OperationError
from starling.protocol.ids import DeviceId, TaskId, Version


@dataclass(frozen=True)
class RollbackModel:
    """A version made again.

    Attributes:
      rollback: As a motion holds it.
      model: Its bytes.
      left_out: How many updates were left out.
      kept: How many were not.
    """

    rollback: TaskRollback
    model: PackedModel
    left_out: int
    kept: int


def remake(
    home: CoordinatorHome,
    task: int,
    without: Sequence[DeviceId],
    again: int | None = None,
    first: int | None = None,
) -> RollbackModel:
    """Makes a version again from what a home keeps; the chain is checked on the way.

    Args:
      home: The coordinator's.
      task: The task's number.
      without: Boards whose updates are left out.
      again: The version; the newest if None.
      first: The version after which they are left out; the one before their first
        update if None.

    Raises:
      ConfigError: If there is no such task, or too many boards are named.
      OperationError: If there is nothing to leave out, too little is kept, or the
        chain does not hold.
    """
    if len(set(without)) > WITHOUT_MAX:
        raise ConfigError(f"{WITHOUT_MAX} boards at most", key="--without")
    boards = frozenset(without)
    source = LineageSource(home.path, task, lambda _height: None)
    try:
        last = source.head if again is None else Version(again)
        lineage = source.lineage(last)
        found = source.first_with(boards)
        if found is None or found > last:
            raise OperationError(f"no update of these boards is in version {last}")
        start = found - 1 if first is None else first
        if not lineage.first <= start < last:
            raise OperationError(
                f"versions can be made again from {lineage.first} on, and the boards' "
                f"first update is in version {found}: with --from {lineage.first} what "
                "they sent before stays in"
            )
        spec, vectors = lineage.spec, lineage.open_vector
        for step in replay(spec, lineage.start, lineage.versions, vectors):
            # First the history as it was: what cannot be made again bit for bit here
            # proves nothing about what is made without some.
            check_exact(step)
        before = [each for each in lineage.versions if each.version <= start]
        after = [each for each in lineage.versions if each.version > start]
        state = replayed_state(spec, lineage.start, before, vectors)
        state = replayed_state(spec, state, after, vectors, boards)
    finally:
        source.close()
    model = pack_model(state)
    senders = [m.board for each in after if each.job for m in each.job.members]
    left_out = sum(board in boards for board in senders)
    rollback = TaskRollback(
        TaskId(task), Version(start), last, model.digests(), tuple(sorted(boards))
    )
    return RollbackModel(rollback, model, left_out, len(senders) - left_out)


def hand_over(home: CoordinatorHome, made: RollbackModel) -> None:
    """Gives the bytes to the running coordinator, which serves them to others."""
    command_inbox.drop_model(home.inbox, made.model)


def remake_asked(home: CoordinatorHome, asked: TaskRollback) -> None:
    """Makes again what a rollback says it made, before it is approved.

    The bytes go to the coordinator here, so that all who approve have them.

    Raises:
      ConfigError, OperationError: As `remake`; also if it comes out differently.
    """
    made = remake(home, asked.task, asked.without, asked.again, asked.first)
    # The digests are part of it: a validator approves only what it computed itself.
    if made.rollback != asked:
        raise OperationError(
            f"version {asked.again} made again here is not what the motion says: it is "
            "not approved"
        )
    hand_over(home, made)
