"""Mailbox of the loop for other threads: in order, and waking it rarely.

To be woken costs the loop more than to look at a message and drop it. What comes on a
topic whose last message was over its account's allowance (`rate_limit`) will most
likely be dropped, too. So for a while such messages wait until something else wakes the
loop, or until there are many; the broker gets their acknowledgements together.
"""

import queue
from collections import deque
from contextlib import suppress
from typing import Generic, TypeVar

_T = TypeVar("_T")
QUIET_MAX = 64
"""That wait without waking the loop; far below what the broker may send us unanswered,
of which votes need their share."""


class Mailbox(Generic[_T]):
    """Many threads put, one takes."""

    def __init__(self) -> None:
        """Starts empty."""
        self._items: deque[_T] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._rung = False

    def put(self, item: _T) -> None:
        """Hands something over and wakes the loop; may be called by signal handlers."""
        self._items.append(item)
        self._ring()

    def put_quietly(self, item: _T) -> None:
        """Hands something over that may wait a moment."""
        self._items.append(item)
        if len(self._items) >= QUIET_MAX:
            self._ring()

    def take(self, timeout_s: float, most: int) -> list[_T]:
        """Takes what there is, in order; waits for it at most so long.

        Args:
          timeout_s: 0 does not wait.
          most: Items to take; if there are more, the next call does not wait.
        """
        with suppress(queue.Empty):
            self._bell.get(timeout=timeout_s)
        # Whoever puts something from here on rings again; what was put before is taken.
        self._rung = False
        taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
        if self._items:
            self._ring()
        return taken

    def _ring(self) -> None:
        # Called twice at the same moment it rings twice, which wakes the loop once for
        # nothing.
        if not self._rung:
            self._rung = True
            self._bell.put(None)
