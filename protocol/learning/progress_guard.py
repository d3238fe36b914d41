"""Guard of a task's progress: a held-out loss that got worse, or falls no more.

A coordinator with held-out data states the mean loss of each final version
(EVALUATION); of the statements of a quorum the lower median counts. The chain keeps the
best and the newest of these medians for each task (`TaskLoss`), and everything here
follows from that record and from the task's `GuardPolicy`, in integers: every
coordinator decides alike, and so does who replays the chain.
"""

from typing import Annotated

from starling.protocol.ids import TaskId, Version
from starling.protocol.schema.msgpack_codec import (
    Structure,
    structure,
    uint,
)

LOSS_MAX = 10**15
"""Largest loss that is stated, in 10^-6; a larger one counts as this."""
MARGIN_MAX = 1000 * 10**6
PATIENCE_MAX = 1 << 20
UNLEARNT_PATIENCE = 10
"""The most patience with a task none of whose versions was better than version 0."""
FLOOR_MICRO = 20_000
"""A loss this little above the best is never called worse: held-out data are few."""
DEFAULT_MARGIN_MICRO = 500_000


class GuardPolicy(Structure, frozen=True):
    """Bounds on how badly a task may go.

    Attributes:
      patience: Versions without a lower held-out loss after which the task pauses; 0
        for never. While version 0 is the best, at most `UNLEARNT_PATIENCE` count.
      margin_micro: Share of the best loss, in 10^-6, by which a loss may exceed it
        before the version is called worse.
    """

    patience: Annotated[int, uint(PATIENCE_MAX)] = 0
    margin_micro: Annotated[int, uint(MARGIN_MAX)] = DEFAULT_MARGIN_MICRO


NO_GUARD = GuardPolicy()
"""Never pauses; says what got worse."""


class Evaluation(Structure, frozen=True):
    """EVALUATION: a coordinator's held-out loss of a final version.

    Attributes:
      task: Which task.
      version: Which version; it is final.
      loss_micro: Mean loss over the coordinator's held-out data, in 10^-6.
    """

    task: TaskId
    version: Version
    loss_micro: Annotated[int, uint(LOSS_MAX)]


EVALUATION = structure(Evaluation, 32)


class Resume(Structure, frozen=True):
    """RESUME: an operator lets a paused task go on.

    Attributes:
      task: Which task.
      version: The newest version with a held-out loss, which the operator has seen.
    """

    task: TaskId
    version: Version


RESUME = structure(Resume, 16)


class TaskLoss(Structure, frozen=True):
    """Medians of a task's held-out losses: the best one, and the newest version's.

    Attributes:
      best: Version with the lowest loss; of equal ones the first that was known.
      best_micro: Its loss, in 10^-6.
      newest: The newest version with a loss.
      newest_micro: Its loss, in 10^-6.
      since: Version from which on patience counts anew; 0 if nobody resumed the task.
    """

    best: Version
    best_micro: Annotated[int, uint(LOSS_MAX)]
    newest: Version
    newest_micro: Annotated[int, uint(LOSS_MAX)]
    since: Version = Version(0)


TASK_LOSS = structure(TaskLoss, 64)


def loss_micro(loss: float) -> int:
    """A finite loss in 10^-6, rounded, and brought within [0, `LOSS_MAX`]."""
    # Bounded first: times 10^6 the largest floats are infinite.
    return round(min(max(loss, 0.0), LOSS_MAX / 1e6) * 1e6)


def with_loss(known: TaskLoss | None, version: Version, micro: int) -> TaskLoss:
    """The record after one more version's median.

    Versions may come in any order: an older one can be the best, never the newest.

    Args:
      known: Before; None if it is the task's first.
      version: Which version.
      micro: Its loss, in 10^-6.
    """
    if known is None:
        return TaskLoss(version, micro, version, micro)
    better = micro < known.best_micro
    newer = version > known.newest
    return TaskLoss(
        version if better else known.best,
        micro if better else known.best_micro,
        version if newer else known.newest,
        micro if newer else known.newest_micro,
        known.since,
    )


def is_worse(policy: GuardPolicy, best_micro: int, micro: int) -> bool:
    """True if a loss exceeds the best by more than the margin and `FLOOR_MICRO`."""
    # In integers, since every coordinator has to decide alike.
    margin = best_micro * policy.margin_micro // 10**6
    return micro > best_micro + margin + FLOOR_MICRO


def newest_is_worse(policy: GuardPolicy, known: TaskLoss | None) -> bool:
    """True if the newest version with a loss is worse than the best by the margin."""
    if known is None:
        return False
    return is_worse(policy, known.best_micro, known.newest_micro)


def patience_with(policy: GuardPolicy, known: TaskLoss) -> int:
    """Versions without a lower loss after which a task pauses; 0 for never.

    What never learned, of data that nobody scaled or steps that are too large, is told
    earlier, until an operator resumes it.
    """
    if known.best == 0 and known.since == 0:
        return min(policy.patience, UNLEARNT_PATIENCE)
    return policy.patience


def is_paused(policy: GuardPolicy, known: TaskLoss | None) -> bool:
    """True if the loss has not fallen for as many versions as there is patience."""
    if known is None or policy.patience == 0:
        return False
    # A resumed task gets its whole patience again, or it would pause at its next
    # version.
    since = max(known.best, known.since)
    return known.newest - since >= patience_with(policy, known)


def worse_text(known: TaskLoss) -> str:
    """Losses of the newest and of the best version, for people."""
    return (
        f"version {known.newest} has held-out loss {known.newest_micro / 1e6:.4f}, "
        f"version {known.best} had {known.best_micro / 1e6:.4f}"
    )


def paused_text(policy: GuardPolicy, known: TaskLoss) -> str:
    """Reason of a pause, for people."""
    return (
        "paused: held-out loss has not fallen for "
        f"{patience_with(policy, known)} versions, {worse_text(known)}"
    )
