"""Event queue, in the order of virtual time.

Ties keep the order in which they were entered, so that a run is a function of its seed.
"""

import heapq
from collections import deque
from collections.abc import Callable

Action = Callable[[], None]


class EventQueue:
    """A clock that jumps from one entry to the next.

    Attributes:
      now_s: Virtual time.
    """

    def __init__(self) -> None:
        """Starts at 0, with nothing to do."""
        self.now_s = 0.0
        self._soon: deque[Action] = deque()
        self._later: list[tuple[float, int, Action]] = []
        self._entered = 0

    def soon(self, action: Action) -> None:
        """Enters an action for this very moment, after all that were entered before."""
        self._soon.append(action)

    def at(self, time_s: float, action: Action) -> None:
        """Enters an action for a moment, or for now if that has passed."""
        # Also keeps the heap from comparing actions, which have no order.
        self._entered += 1
        heapq.heappush(self._later, (time_s, self._entered, action))

    def settle(self) -> None:
        """Does all that was entered for this very moment, and what that enters."""
        while self._soon:
            self._soon.popleft()()

    def advance(self) -> bool:
        """Does the next thing; False if there is none."""
        if self._soon:
            self._soon.popleft()()
            return True
        if not self._later:
            return False
        time_s, _, action = heapq.heappop(self._later)
        # Entered for a moment that has passed, it happens now: time never goes back.
        self.now_s = max(self.now_s, time_s)
        action()
        return True
