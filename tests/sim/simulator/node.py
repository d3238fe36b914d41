"""What boards and coordinators have in common: they live, lose power, and come back."""

from collections.abc import Callable

from starling.broker.link_events import MqttMessage
from tests.sim.simulator.mqtt_broker import Broker, Link
from tests.sim.simulator.virtual_time import PowerCut, Timeline

RESTART_S = 1.0
NEVER_S = float("inf")


class SimulatedNode:
    """A process with a disk that outlives it.

    Attributes:
      alive: Whether it runs.
      instants: Effects that it was about to carry out, over all its lives.
      cuts: Loses power before the effects of these numbers.
    """

    def __init__(
        self, name: str, time: Timeline, broker: Broker, filters: tuple[str, ...]
    ) -> None:
        self.name = name
        self.time = time
        self.alive = False
        self.instants = 0
        self.cuts: frozenset[int] = frozenset()
        self.crashes = 0
        self.link = Link(self, broker, filters)
        self._life = 0
        self._alarm_s = NEVER_S

    def boot(self) -> None:
        """Starts from what the disk holds."""
        if self.alive:
            return
        self.alive = True
        self._life += 1
        self._alarm_s = NEVER_S
        self.guard(self.begin)
        if self.alive:
            self.link.dial()

    def begin(self) -> None:
        """Makes the first state."""
        raise NotImplementedError

    def forget(self) -> None:
        """Loses what was not durable."""
        raise NotImplementedError

    def wake(self) -> None:
        """The moment that the core asked for has come."""
        raise NotImplementedError

    def instant(self) -> None:
        """The power may go here.

        Raises:
          PowerCut: If it goes.
        """
        number = self.instants
        self.instants += 1
        if number in self.cuts or self.time.happens(self.time.weather.crash):
            raise PowerCut

    def guard(self, call: Callable[[], None]) -> None:
        """Runs something that a power cut may end."""
        try:
            call()
        except PowerCut:
            self.die()

    def die(self) -> None:
        """Loses power, and comes back after a while."""
        self.end()
        self.time.after(self.time.about(RESTART_S), self.boot)

    def end(self) -> None:
        """Loses power; whoever wants it back boots it."""
        self.time.note(self.name, "dies")
        self.crashes += 1
        self.alive = False
        self._life += 1
        self.link.lose()
        self.forget()

    def later(self, wait_s: float, call: Callable[[], None]) -> None:
        """Does something after a wait, if this life lasts that long."""
        life = self._life

        def happen() -> None:
            if life == self._life:
                self.guard(call)

        self.time.after(wait_s, happen)

    def wake_at(self, when_s: float) -> None:
        """Sees to it that `wake` is called at a moment, or earlier."""
        if when_s >= self._alarm_s or when_s == NEVER_S:
            return
        self._alarm_s = when_s

        def ring() -> None:
            if self._alarm_s == when_s:
                self._alarm_s = NEVER_S
                self.wake()

        self.later(max(0.0, when_s - self.time.now_s), ring)

    def connected(self) -> None:
        raise NotImplementedError

    def disconnected(self) -> None:
        raise NotImplementedError

    def arrived(self, message: MqttMessage, token: tuple[int, int]) -> None:
        raise NotImplementedError

    def delivered(self, publish_id: int) -> None:
        raise NotImplementedError
