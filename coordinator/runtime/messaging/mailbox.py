"""Mailbox of the loop for other threads: in order, and waking it rarely.

To be woken costs the loop more than to look at a message and drop it. What comes on a
topic whose last message was over its account's allowance (`rate_limit`) will most
likely be dropped, too. So for a while such messages wait until something else wakes the
loop, or until there are many; the broker gets their acknowledgements together.
"""

import queue
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

_T = TypeVar("_T")
QUIET_MAX = 64
"""That wait without waking the loop; far below what the broker may send us unanswered,
of which votes need their share."""
MUTE_S = 1.0
"""In which an account earns what it may send in a second, as without being muted."""


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
        if not self._rung:
            self._rung = True
            self._bell.put(None)


class MutedTopics:
    """Topics on which more came than their account may send.

    One thread adds, any may ask.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Starts without any.

        Args:
          now_s: Monotonic clock.
        """
        self._now_s = now_s
        self._until_s: dict[str, float] = {}

    def add(self, topic: str) -> None:
        """Mutes a topic for a while."""
        now_s = self._now_s()
        over = [name for name, until_s in self._until_s.items() if until_s <= now_s]
        for name in over:
            del self._until_s[name]
        self._until_s[topic] = now_s + MUTE_S

    def __contains__(self, topic: str) -> bool:
        """True if a topic is muted now."""
        return self._until_s.get(topic, 0.0) > self._now_s()
