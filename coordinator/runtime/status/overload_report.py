"""Report of dropped messages: in the status by name, in the log rarely."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.peers import directory
from starling.coordinator.step.state import CoordinatorState

SAY_AGAIN_S = 3600.0
NAMES_SHOWN_MAX = 50
NAMES_KEPT_MAX = 4096


def shown(state: CoordinatorState, tally: CoordinatorCounters) -> dict[str, Any]:
    """Counts for the status.

    Returns:
      `dropped`, messages without room by lane; `ignored`, messages beyond the allowance
      of a board, by its name; `wants_dropped`, needs of ours without room.
    """
    return {
        "dropped": dict(tally.dropped),
        "ignored": dict(tally.ignored.most_common(NAMES_SHOWN_MAX)),
        "wants_dropped": state.wants_dropped,
    }


def counts(state: CoordinatorState, tally: CoordinatorCounters) -> Mapping[str, int]:
    """Everything that was dropped since the start, by what is said of it."""
    found: Counter[str] = Counter()
    for lane, count in tally.dropped.items():
        found[f"{lane}: messages for which there was no room"] = count
    for name, count in tally.ignored.items():
        found[f"{name}: messages beyond a board's allowance"] = count
    found["own needs not asked for: too many at once"] = state.wants_dropped
    for who, peer in state.peers.items():
        name = directory.name_of(state.ledger, who)
        found[f"{name}: beyond what a coordinator may say and ask"] = peer.refused
        found[f"{name}: names more than is asked for"] = peer.wants_dropped
    return found


class OverloadLog:
    """Remembers what was said, so that nobody can fill the log."""

    def __init__(self) -> None:
        """Has said nothing yet."""
        self._seen: dict[str, int] = {}
        self._said_s: dict[str, float] = {}

    def lines(self, found: Mapping[str, int], now_s: float) -> list[str]:
        """Lines to log now: counts that grew, and were not logged within the hour.

        Args:
          found: From `counts`.
          now_s: Monotonic clock.
        """
        lines = []
        for name, count in found.items():
            if count <= self._seen.get(name, 0):
                continue
            said_s = self._said_s.get(name)
            if said_s is not None and now_s < said_s + SAY_AGAIN_S:
                continue
            if len(self._said_s) >= NAMES_KEPT_MAX:
                # Its memory is bounded: names of boards come from outside.
                oldest = min(self._said_s, key=self._said_s.__getitem__)
                del self._said_s[oldest]
                self._seen.pop(oldest, None)
            lines.append(f"{name}, {count} so far")
            self._seen[name], self._said_s[name] = count, now_s
        return lines
