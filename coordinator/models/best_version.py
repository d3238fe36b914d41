"""The best version of a model on held-out data."""

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Scored(Protocol):
    """A version with what an evaluation gave."""

    @property
    def version(self) -> int:
        """Its number."""

    @property
    def accuracy(self) -> float | None:
        """In [0, 1]; None if unknown or without meaning."""

    @property
    def loss(self) -> float | None:
        """None if unknown."""


_Row = TypeVar("_Row", bound=Scored)


def best_version(rows: Iterable[_Row]) -> _Row | None:
    """The version with the highest accuracy, or, without any, the lowest loss.

    Of equal accuracies the lower loss decides, of equal losses the newer version.

    Returns:
      None if nothing was evaluated.
    """
    known = [row for row in rows if row.loss is not None]
    if not known:
        return None
    return max(known, key=_rank)


def _rank(row: Scored) -> tuple[float, float, int]:
    accuracy = -1.0 if row.accuracy is None else row.accuracy
    return accuracy, -(row.loss or 0.0), row.version
