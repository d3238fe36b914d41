"""Monitor of the coordinators' statuses over time: pauses, liars, forks.

Only what the coordinators themselves know is looked at, never the timeline of faults:
the run is to show that they find out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from starling.fleet.monitor.run_snapshot import CoordinatorPoint, FinalityPause

PAUSE_AFTER_S = 5.0
"""Two heartbeats of a fleet and the second between two statuses."""


def sides(points: Sequence[CoordinatorPoint]) -> tuple[tuple[int, ...], ...]:
    """Groups of coordinators that are up and hear each other, largest first."""
    up = {point.number: point for point in points if not point.down}
    left, found = set(up), []
    while left:
        side = {min(left)}
        reached = set(side)
        while reached:
            at = up[reached.pop()]
            # Both ways: one that is heard and hears nobody makes no quorum with
            # anybody.
            fresh = {n for n in at.hears if n in left and at.number in up[n].hears}
            reached |= fresh - side
            side |= fresh
        left -= side
        found.append(tuple(sorted(side)))
    return tuple(sorted(found, key=lambda side: (-len(side), side)))


def obstacle(points: Sequence[CoordinatorPoint], quorum: int) -> str:
    """Reason why no block may be decided now, for people.

    Args:
      points: All coordinators.
      quorum: How many decide.
    """
    groups = sides(points)
    shown = " | ".join(" ".join(map(str, side)) for side in groups)
    silent = [f"{point.number} {point.silence}" for point in points if point.silence]
    if not groups:
        return "all coordinators are down"
    if len(groups[0]) < quorum:
        return f"no side has a quorum of {quorum}: {shown}"
    if silent:
        return f"not all vote: {'; '.join(silent)}"
    return f"{shown} hear each other, and have not decided"


@dataclass
class ConsensusMonitor:
    """Notices what changes from look to look.

    Attributes:
      pauses: Of finality, in order; the last one may not have ended.
    """

    pauses: tuple[FinalityPause, ...] = ()
    _height: int = -1
    _grew_at_s: float = 0.0
    _told: frozenset[str] = frozenset()

    def look(
        self, time_s: float, points: Sequence[CoordinatorPoint], quorum: int
    ) -> list[str]:
        """Takes note of where the coordinators are.

        Args:
          time_s: Since the task is open.
          points: All coordinators.
          quorum: How many decide.

        Returns:
          A line for everything that is new.
        """
        said = self._pause(time_s, points, quorum)
        for line in _findings(points):
            if line not in self._told:
                self._told |= {line}
                said.append(line)
        return said

    def _pause(
        self, time_s: float, points: Sequence[CoordinatorPoint], quorum: int
    ) -> list[str]:
        height = max((point.height for point in points), default=0)
        open_pause = self.pauses[-1] if self.pauses else None
        if open_pause is not None and open_pause.until_s is not None:
            open_pause = None
        if height > self._height:
            self._height, self._grew_at_s = height, time_s
            if open_pause is None:
                return []
            ended = FinalityPause(open_pause.from_s, time_s, open_pause.why)
            self.pauses = (*self.pauses[:-1], ended)
            return [f"finality goes on after {time_s - ended.from_s:.0f} s"]
        if open_pause is not None or time_s - self._grew_at_s < PAUSE_AFTER_S:
            return []
        pause = FinalityPause(self._grew_at_s, None, obstacle(points, quorum))
        self.pauses = (*self.pauses, pause)
        return [f"finality pauses since {pause.since}: {pause.why}"]


def _findings(points: Sequence[CoordinatorPoint]) -> list[str]:
    """Findings that an operator must see, in words that stay the same meanwhile."""
    found = []
    for point in points:
        found += [
            f"{name} attested another model than became final" for name in point.named
        ]
        found += [f"{name} is convicted: {what}" for name, what in point.convicted]
        if point.split:
            found.append(f"more liars than are allowed for: {point.split}")
    tips: dict[int, set[str]] = {}
    for point in points:
        tips.setdefault(point.height, set()).add(point.tip)
    if any(len(known) > 1 for known in tips.values()):
        found.append("FORK: coordinators hold different blocks of one height")
    return found
