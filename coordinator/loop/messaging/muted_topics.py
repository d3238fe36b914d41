"""Topics on which more came than their account may send, for a while.

What comes on a topic whose last message was over its account's allowance
(`wire.rate_limit`) will most likely be dropped, too.
"""

from collections.abc import Callable

MUTE_S = 1.0
"""In which an account earns what it may send in a second, as without being muted."""


class MutedTopics:
    """Topics on which more came than their account may send.

    One thread adds, any may ask.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
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
