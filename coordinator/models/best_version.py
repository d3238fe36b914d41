"""The best version of a model on held-out data."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from starling.protocol.errors import ProtocolError
from starling.protocol.ids import Digest
from starling.protocol.model.training_bundle import (
    MANIFEST,
    manifest_from_json,
    unpack_bundle,
)


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


def best_version(rows: Iterable[_Row], *, by_loss: bool = False) -> _Row | None:
    """The version with the highest accuracy, or, without any, the lowest loss.

    Of equal accuracies the lower loss decides, of equal losses the newer version.

    Args:
      rows: Versions of one task.
      by_loss: Whether accuracies do not count; see `ranks_by_loss`.

    Returns:
      None if nothing was evaluated.
    """
    known = [row for row in rows if row.loss is not None]
    if not known:
        return None
    return max(known, key=lambda row: _rank(row, by_loss=by_loss))


def ranks_by_loss(bundle: bytes) -> bool:
    """True if a task's bundle has class weights: accuracy would belie what it learns.

    Its loss is weighted, on held-out data too. A bundle that cannot be read has none.
    """
    try:
        manifest = manifest_from_json(unpack_bundle(bundle)[MANIFEST])
    except (ProtocolError, LookupError):
        return False
    return bool(manifest.loss_settings.class_weights)


class LossRankings:
    """Remembers of each bundle whether `ranks_by_loss`."""

    def __init__(self, blob: Callable[[Digest], bytes | None]) -> None:
        """Knows of none.

        Args:
          blob: Finds a bundle; None while it is not here.
        """
        self._blob = blob
        self._known: dict[Digest, bool] = {}

    def by_loss(self, bundle: Digest) -> bool:
        """True if the best version of the bundle's task is that of the lowest loss."""
        # Once for each bundle: to unpack it takes a while, and rankings are asked for
        # often.
        if bundle not in self._known:
            content = self._blob(bundle)
            if content is None:
                # Not remembered: the bundle may still come.
                return False
            self._known[bundle] = ranks_by_loss(content)
        return self._known[bundle]


def _rank(row: Scored, *, by_loss: bool) -> tuple[float, float, int]:
    # Below any accuracy; where none counts all are alike, and the loss decides.
    unknown = row.accuracy is None or by_loss
    return -1.0 if unknown else row.accuracy or 0.0, -(row.loss or 0.0), row.version
