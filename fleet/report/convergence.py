"""End of a run, by the loss on held-out examples or by what budgets are left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

GAIN = 1e-3
"""A version is better than the best before it by at least this share of its loss."""
QUIET_S = 15.0
"""Without progress; a task of `fleet run` cuts half a buffer after 3 s."""


def converged(losses: Sequence[float | None], patience: int | None) -> bool:
    """Tells if so many versions in a row were no better than the best before.

    Args:
      losses: Of each version in order; None where one was not evaluated.
      patience: How many; None for never.

    Source:
      Prechelt, Early Stopping - But When? (1998), criterion UP with strips of one.
    """
    if patience is None:
        return False
    best, waited = float("inf"), 0
    for loss in losses:
        if loss is None:
            continue
        if loss < best * (1.0 - GAIN) or best == float("inf"):
            best, waited = loss, 0
        else:
            waited += 1
    return waited >= patience


def why_over(losses: Sequence[float | None], patience: int | None, paused: bool) -> str:
    """Reason why a run is over by its losses, for the report; empty if it is not.

    Args:
      losses: Of each version in order; None where one was not evaluated.
      patience: As of `converged`.
      paused: Whether the task itself pauses.
    """
    if paused:
        return "paused"
    return "converged" if converged(losses, patience) else ""


@dataclass
class BudgetWatch:
    """Watch over the budgets of one run.

    A board signs once for each version, and half a buffer makes one. Where fewer boards
    than that have budget left, what they sent waits for ever.

    Attributes:
      boards: Of the fleet.
      buffer: Updates that make a version.
    """

    boards: int
    buffer: int
    _progress: object = None
    _since_s: float = 0.0

    def is_over(
        self,
        time_s: float,
        progress: object,
        spent: int,
        barred: Callable[[], int] = lambda: 0,
    ) -> bool:
        """Tells whether no further version can be paid for.

        Args:
          time_s: By the clock that the task's patience counts by.
          progress: Whatever is another when a version or an update is new.
          spent: Boards whose budget is spent.
          barred: Counts the others that are in quarantine until the run is over; asked
            only when there was no progress for a while.
        """
        if progress != self._progress:
            self._progress, self._since_s = progress, time_s
        left, half = self.boards - spent, -(-self.buffer // 2)
        # What is under way may still make a version: the last updates are paid for and
        # sent.
        if left <= 0 or time_s - self._since_s <= QUIET_S:
            return left <= 0
        return left - barred() < half


def barred_boards(quarantined: int, quarantine_s: float, run_s: float) -> int:
    """Boards that take part in no more versions of this run.

    Args:
      quarantined: Boards in quarantine now.
      quarantine_s: How long the first one of a board lasts.
      run_s: The most that the run takes.

    Returns:
      None of them if some may return before the run is over.
    """
    return quarantined if quarantine_s >= run_s else 0


def spent_text(barred: int) -> str:
    """Says why a run ended of which no further version can be paid for.

    Args:
      barred: Boards with budget left that are in quarantine.
    """
    return f"budgets spent, {barred} in quarantine" if barred else "budgets spent"
