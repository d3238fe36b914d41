"""Convergence of a run, by the loss on held-out examples."""

from collections.abc import Sequence

GAIN = 1e-3
"""A version is better than the best before it by at least this share of its loss."""


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
