"""Virtual time: one heap of what is to happen, one source of chance, one trace."""

import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

LINES_KEPT = 60


class PowerCut(BaseException):
    """The current is gone: whatever ran stops between two effects.

    No error of the code under test, so that nothing there can catch it.
    """


@dataclass(frozen=True)
class Weather:
    """What goes wrong, as rates in [0, 1] unless they say otherwise.

    Attributes:
      delay_s: Mean time of a message's way to or from the broker.
      loss: Messages that the broker takes and drops, those of retained topics excepted:
        a client gets them again with its next connection only.
      duplicate: Messages that arrive twice.
      forge: Messages that are followed by a damaged or foreign one.
      crash: Crashes per effect.
      failure: Trainings that fail.
      clock: Readings of the wall clock that are wrong.
      flap_s: Mean time between two lost connections of a party; 0 for none.
      broker_s: Mean time between two restarts of the broker; 0 for none.
    """

    delay_s: float = 0.05
    loss: float = 0.0
    duplicate: float = 0.0
    forge: float = 0.0
    crash: float = 0.0
    failure: float = 0.0
    clock: float = 0.0
    flap_s: float = 0.0
    broker_s: float = 0.0


CALM = Weather()


class Timeline:
    """The clock that all parties share; what happens at one moment happens in order.

    Attributes:
      rng: The only source of chance.
      now_s: Virtual time.
      weather: What goes wrong now.
    """

    def __init__(self, seed: int, weather: Weather) -> None:
        self.rng = random.Random(seed)
        self.now_s = 0.0
        self.weather = weather
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._lines: deque[tuple[float, str, str]] = deque(maxlen=LINES_KEPT)

    def at(self, when_s: float, call: Callable[[], None]) -> None:
        """Lets something happen at a moment, not before now."""
        self._count += 1
        heapq.heappush(self._heap, (max(when_s, self.now_s), self._count, call))

    def after(self, wait_s: float, call: Callable[[], None]) -> None:
        """Lets something happen after a wait."""
        self.at(self.now_s + wait_s, call)

    def about(self, mean_s: float) -> float:
        """A wait of half to one and a half times a mean."""
        return mean_s * self.rng.uniform(0.5, 1.5)

    def happens(self, rate: float) -> bool:
        """Whether chance wants it; draws nothing where it cannot."""
        return rate > 0.0 and self.rng.random() < rate

    def run(self, until_s: float, done: Callable[[], bool]) -> bool:
        """Lets everything happen until a moment, or until `done` says so.

        Returns:
          Whether `done` did.
        """
        while not done():
            if not self._heap or self._heap[0][0] > until_s:
                self.now_s = until_s
                return False
            self.now_s, _, call = heapq.heappop(self._heap)
            call()
        return True

    def note(self, who: str, what: str, content: bytes = b"") -> None:
        """Adds to the trace."""
        self._digest.update(f"{self.now_s!r} {who} {what} ".encode())
        self._digest.update(content)
        self._lines.append((self.now_s, who, what))

    @property
    def trace(self) -> str:
        """Names everything that happened so far."""
        return self._digest.hexdigest()

    @property
    def tail(self) -> str:
        """What happened last, for people."""
        return "\n".join(f"{at:9.3f} {who:8} {what}" for at, who, what in self._lines)
