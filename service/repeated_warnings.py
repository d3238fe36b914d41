"""Keeps a failure that goes on from filling the log: it is told once an hour."""

EVERY_S = 3600.0
KEPT_MAX = 64


class RepeatedWarnings:
    """Memory of the texts that were told, and when."""

    def __init__(self) -> None:
        """Has told nothing yet."""
        self._told_s: dict[str, float] = {}

    def is_new(self, text: str, now_s: float) -> bool:
        """True if this text is to be told now, which then counts as told.

        Args:
          text: Without what differs each time, such as a wait.
          now_s: Monotonic time.
        """
        before_s = self._told_s.get(text)
        if before_s is not None and now_s < before_s + EVERY_S:
            return False
        # Put in anew, it is the last one: the first one of a dict is then the one told
        # longest ago.
        self._told_s.pop(text, None)
        self._told_s[text] = now_s
        if len(self._told_s) > KEPT_MAX:
            del self._told_s[next(iter(self._told_s))]
        return True

    def forget(self) -> None:
        """The failure is over: what comes is told at once."""
        self._told_s.clear()
