"""End of a task: by version, by time, at a loss that is good enough, or without pay.

Everything follows from the chain: its head, the time of its newest header, the best
held-out loss of a quorum (`progress_guard`), and the task's pool of credits. A task
that ended grants no more leases; what boards paid for already still counts. Convergence
is the guard's patience: a task whose loss falls no more pauses. The privacy budget of a
board is its own, and ends with its releases, whatever the task does.
"""

from datetime import UTC, datetime
from typing import Annotated

from starling.protocol.learning.progress_guard import LOSS_MAX, TaskLoss
from starling.protocol.schema.msgpack_codec import Structure, Uint, uint


class EndPolicy(Structure, frozen=True):
    """End of a task; each 0 for never.

    Attributes:
      version: Its last version.
      until_ms: Header time, in Unix milliseconds, at which it ends.
      loss_micro: Held-out loss of a quorum, in 10^-6, that is good enough.
      unpaid: 1 if it ends while its pool is empty.
    """

    version: Uint = 0
    until_ms: Uint = 0
    loss_micro: Annotated[int, uint(LOSS_MAX)] = 0
    unpaid: Annotated[int, uint(1)] = 0


NO_END = EndPolicy()
"""Goes on as long as boards take part."""


def is_good_enough(policy: EndPolicy, known: TaskLoss | None) -> bool:
    """True if a quorum's best held-out loss is what the policy asks for.

    Args:
      policy: Of the task.
      known: Its held-out losses; None before a quorum's first.
    """
    bound = policy.loss_micro
    return bool(bound) and known is not None and known.best_micro <= bound


def ended_text(
    policy: EndPolicy, head: int, time_ms: int, known: TaskLoss | None, pool: int
) -> str:
    """Reason for which a task has ended, for people; empty if it goes on.

    Args:
      policy: Of the task.
      head: Its newest version.
      time_ms: Of the newest header, in Unix milliseconds.
      known: Its held-out losses; None before a quorum's first.
      pool: Credits that are left for its versions.
    """
    if policy.version and head >= policy.version:
        return f"ended: version {policy.version} is its last"
    if policy.until_ms and time_ms >= policy.until_ms:
        until = datetime.fromtimestamp(policy.until_ms / 1000, UTC)
        return f"ended: its time was over at {until:%Y-%m-%d %H:%M} UTC"
    if known is not None and is_good_enough(policy, known):
        return (
            f"ended: version {known.best} has held-out loss "
            f"{known.best_micro / 1e6:.4f}, {policy.loss_micro / 1e6:g} is enough"
        )
    if policy.unpaid and not pool:
        return "ended: its pool has no credits left; FUND lets it go on"
    return ""
