"""The core's state after a start, from what a disk holds."""

from collections.abc import Callable, Iterable

from starling.agent.step.effects import SpoolEntry
from starling.agent.step.ongoing_work import (
    PendingUpload,
)
from starling.agent.step.state import (
    WaitTimes,
)


def pending_uploads(
    found: Iterable[SpoolEntry],
    is_accepted: Callable[[SpoolEntry], bool],
    pace: WaitTimes,
    now_s: float,
) -> list[PendingUpload]:
    """Uploads that wait in the spool, in the order in which they are found.

    Args:
      found: What the spool has, oldest first.
      is_accepted: True if a receipt was noted. Such an upload is sent again after a
        while only, should its proof stay away.
      pace: Of the agent.
      now_s: Monotonic time.
    """
    return [
        PendingUpload(entry, True, now_s + pace.final_s)
        if is_accepted(entry)
        else PendingUpload(entry, False, now_s)
        for entry in found
    ]
