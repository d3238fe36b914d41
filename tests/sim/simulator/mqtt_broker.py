"""The broker and its links: QoS 1, sessions, retained messages and last wills.

Within the rules of MQTT everything that may happen does: a message is taken without an
answer, delivered twice, overtaken, or dropped for a client whose queue is full.
"""

from dataclasses import dataclass, field
from typing import Protocol

from starling.broker.link_events import MqttMessage
from starling.protocol.errors import TransportError
from tests.sim.simulator.message_forger import MessageForger
from tests.sim.simulator.virtual_time import Timeline

RETRY_S = 1.0
HELD_MAX = 400


class Client(Protocol):
    """Whoever stands at the end of a link."""

    name: str

    @property
    def alive(self) -> bool: ...

    def connected(self) -> None: ...

    def disconnected(self) -> None: ...

    def arrived(self, message: MqttMessage, token: tuple[int, int]) -> None: ...

    def delivered(self, publish_id: int) -> None: ...


@dataclass
class Session:
    """What the broker keeps for a client: filters, and messages without an answer."""

    filters: tuple[tuple[str, ...], ...]
    held: dict[int, MqttMessage] = field(default_factory=dict)
    _wanted: dict[str, bool] = field(default_factory=dict)

    def wants(self, topic: str) -> bool:
        if topic not in self._wanted:
            levels = topic.split("/")
            self._wanted[topic] = any(
                len(each) == len(levels)
                and all(a in ("+", b) for a, b in zip(each, levels, strict=True))
                for each in self.filters
            )
        return self._wanted[topic]


class Link:
    """One client's way to the broker.

    Attributes:
      epoch: Counts connections and their ends; what belongs to an older one is void.
    """

    def __init__(
        self, client: Client, broker: "Broker", filters: tuple[str, ...]
    ) -> None:
        self.client = client
        self.epoch = 0
        self.up = False
        self._broker = broker
        self._will: MqttMessage | None = None
        self._due: MqttMessage | None = None
        self._published = 0
        split = tuple(tuple(each.split("/")) for each in filters)
        self.session = broker.session(self, split)

    def set_will(self, will: MqttMessage) -> None:
        """Keeps it for the next connection."""
        self._will = will

    def dial(self) -> None:
        """Connects as soon as the broker is there."""
        time, epoch = self._broker.time, self.epoch
        time.after(time.about(RETRY_S / 4), lambda: self._try(epoch))

    def _try(self, epoch: int) -> None:
        if epoch != self.epoch or not self.client.alive:
            return
        if not self._broker.up:
            time = self._broker.time
            time.after(time.about(RETRY_S), lambda: self._try(epoch))
            return
        self._last_words()
        self.epoch += 1
        self.up = True
        self.client.connected()
        if self.up:
            self._broker.resume(self)

    def publish(self, message: MqttMessage) -> int:
        """Sends a message and names it.

        Raises:
          TransportError: If there is no connection.
        """
        if not self.up:
            raise TransportError("not connected")
        self._published += 1
        self._broker.send(self, self._published, message)
        return self._published

    def acknowledge(self, token: tuple[int, int]) -> None:
        """Lets the broker forget a message."""
        epoch, number = token
        if self.up and epoch == self.epoch:
            self.session.held.pop(number, None)

    def lose(self, *, graceful: bool = False) -> None:
        """The connection ends; the broker tells the last will a little later."""
        if not self.up:
            return
        self.epoch += 1
        self.up = False
        time = self._broker.time
        if not graceful and self._will is not None:
            self._due = self._will
            time.after(time.about(1.0), self._last_words)
        if self.client.alive:
            self.client.disconnected()
        if self.client.alive:
            self.dial()

    def _last_words(self) -> None:
        will, self._due = self._due, None
        if will is not None:
            self._broker.take(will)


class Broker:
    """The broker; `up` unless it is being restarted."""

    def __init__(self, time: Timeline) -> None:
        self.time = time
        self.up = True
        self._retained: dict[str, MqttMessage] = {}
        self._links: list[Link] = []
        self._number = 0
        self.forger = MessageForger(time)
        self.forger.deliver = self._spread

    def session(self, link: Link, filters: tuple[tuple[str, ...], ...]) -> Session:
        """Opens a client's session; it outlives connections."""
        self._links.append(link)
        return Session(filters)

    def restart(self, *, forget: bool) -> None:
        """Ends all connections and comes back after a while.

        Args:
          forget: Whether sessions and retained messages are lost.
        """
        self.time.note("broker", f"restarts, forget={forget}")
        self.up = False
        for link in self._links:
            link.lose(graceful=True)
            if forget:
                link.session.held.clear()
        if forget:
            self._retained.clear()
        self.time.after(self.time.about(2.0), self._back)

    def _back(self) -> None:
        self.up = True

    def send(self, link: Link, publish_id: int, message: MqttMessage) -> None:
        """A message leaves a client."""
        epoch, time = link.epoch, self.time
        reached = time.rng.random() < 0.5

        def arrive() -> None:
            current = epoch == link.epoch
            if not self.up or not (current or reached):
                return
            self.take(message)
            if current:
                time.after(time.about(time.weather.delay_s), answer)

        def answer() -> None:
            if epoch == link.epoch and link.client.alive:
                link.client.delivered(publish_id)

        time.after(time.about(time.weather.delay_s), arrive)

    def take(self, message: MqttMessage) -> None:
        """Keeps what is retained, and delivers to everyone who wants it."""
        if message.retain:
            self._retained[message.topic] = message
        self._spread(message)
        self.forger.saw(message)

    def _spread(self, message: MqttMessage) -> None:
        for link in self._links:
            if link.session.wants(message.topic):
                self._hold(link, message)

    def _hold(self, link: Link, message: MqttMessage) -> None:
        if not message.retain and self.time.happens(self.time.weather.loss):
            return
        if len(link.session.held) >= HELD_MAX:
            return
        self._number += 1
        link.session.held[self._number] = message
        if link.up:
            self._deliver(link, self._number, message)

    def resume(self, link: Link) -> None:
        """Sends what a session holds, and the retained messages."""
        for number, message in list(link.session.held.items()):
            self._deliver(link, number, message)
        for topic in sorted(self._retained):
            if link.session.wants(topic):
                self._hold(link, self._retained[topic])

    def _deliver(self, link: Link, number: int, message: MqttMessage) -> None:
        epoch, time = link.epoch, self.time

        def arrive() -> None:
            if epoch == link.epoch and link.client.alive:
                link.client.arrived(message, (epoch, number))

        time.after(time.about(time.weather.delay_s), arrive)
        if time.happens(time.weather.duplicate):
            time.after(time.about(20 * time.weather.delay_s), arrive)
