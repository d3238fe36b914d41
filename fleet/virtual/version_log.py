"""Final versions as the fleet first sees them, and what evaluations gave."""

from collections.abc import Callable
from dataclasses import dataclass, field

from starling.fleet.virtual.workload import Score, Workload
from starling.protocol.ids import Version

Metrics = tuple[float | None, float]
"""Accuracy and mean loss."""


@dataclass
class VersionLog:
    """Knowledge of the whole fleet about its versions.

    Attributes:
      labour: Evaluates; one version at a time.
      on_metrics: Told of each version that was evaluated.
      head: The newest final version; -1 before the task is open.
      times_s: When each became final.
      metrics: Of each version that was evaluated, once that is over.
    """

    labour: Workload
    on_metrics: Callable[[Version, Metrics], None] = lambda _version, _metrics: None
    head: int = -1
    times_s: dict[int, float] = field(default_factory=dict)
    metrics: dict[int, Metrics] = field(default_factory=dict)
    _asked: int = -1
    _awaited: tuple[Version, Score] | None = None

    @property
    def losses(self) -> list[float | None]:
        """On held-out examples, of each version; None while it is not evaluated."""
        found = [self.metrics.get(version) for version in range(self.head + 1)]
        return [None if each is None else each[1] for each in found]

    def reached(self, version: Version, time_s: float) -> bool:
        """A coordinator knows a version to be final; whether it is the first one."""
        if version <= self.head:
            return False
        self.head = version
        self.times_s[version] = time_s
        return True

    def evaluate(self, version: Version, inference: bytes) -> None:
        """Begins an evaluation, unless that of this version or of a newer one has."""
        if version <= self._asked:
            return
        self.finish()
        self._asked = version
        self._awaited = version, self.labour.evaluate(inference)

    def finish(self) -> None:
        """Waits for the last evaluation."""
        if self._awaited is not None:
            version, score = self._awaited
            self._awaited = None
            found = score()
            if found is not None:
                self.metrics[version] = found
                self.on_metrics(version, found)
