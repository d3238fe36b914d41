"""Waiting for something to come true, with an end."""

import time
from collections.abc import Callable

DEADLINE_S = 180.0


def until(condition: Callable[[], bool]) -> None:
    """Waits; fails after `DEADLINE_S`."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "did not come true in time"
        time.sleep(0.01)
