"""Drives the event loop of a coordinator with MQTT, SQLite, threads and signals."""

import logging
from collections.abc import Iterable
from dataclasses import replace

from starling.broker.link_events import LinkEvent
from starling.coordinator.loop.ports import Item
from starling.coordinator.runtime.assembly import AssembledCoordinator, assemble
from starling.coordinator.runtime.environment import CoordinatorEnvironment
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.messaging.mailbox import Mailbox
from starling.coordinator.runtime.messaging.peer_brokers import (
    PeerBrokerEvent,
    PeerBrokers,
)
from starling.coordinator.step.effects import RecordRefusal
from starling.coordinator.step.events import PeerFrameArrived
from starling.protocol.errors import DecodeError, Reason, StorageError

log = logging.getLogger("starling.coordinator")

BATCH_MAX = 1024
STOP_TIMEOUT_S = 5.0


class _Stop:
    """A signal asked us to end."""


_Letter = Item | PeerBrokerEvent | _Stop | BaseException


class ProcessLoop:
    """One running coordinator.

    Attributes:
      restarts: Whether it ended for another one to go on from a snapshot.
    """

    def __init__(
        self, home: CoordinatorHome, surroundings: CoordinatorEnvironment
    ) -> None:
        """Opens everything; connects to nothing yet."""
        self._queue: Mailbox[_Letter] = Mailbox()
        self._name = home.name
        self._parts: AssembledCoordinator = assemble(
            home, self._queue.put, surroundings
        )
        self._loop = self._parts.loop
        self._monitor = self._parts.monitor
        self._now_s = surroundings.clock.now_s
        self._notifier = surroundings.notifier
        self._myself = self._loop.settings.ledger.key.identity
        self.restarts = False
        link = replace(self._parts.link, rest_s=self._loop.incoming.rest_s)
        self._link = surroundings.open_bus(link, self._arrived)
        self._elsewhere = PeerBrokers(
            self._parts.peer_links, surroundings.open_bus, self._queue.put
        )
        self._monitor.brokers = self._elsewhere.conditions

    def _arrived(self, event: LinkEvent) -> None:
        may_wait = self._loop.incoming.may_wait(event)
        (self._queue.put_quietly if may_wait else self._queue.put)(event)

    def run(self) -> int:
        """Serves until a signal ends it.

        Returns:
          0.

        Raises:
          StorageError: If the disk refuses; what was published before is durable.
        """
        # First: what the journal and the store tell decides what is said on the link.
        self._loop.begin(self._link)
        self._link.start()
        self._elsewhere.start()
        height = self._loop.state.ledger.height
        log.info("coordinator %s at height %d", self._name, height)
        self._notifier.ready(f"height {height}")
        try:
            while not self._monitor.stopping:
                self._turn()
                self._notifier.feed(self._now_s())
        except StorageError as error:
            self._write_status(str(error))
            raise
        # A start from a snapshot is no end of the service.
        if not self.restarts:
            self._notifier.stopping()
        # Others need not wait for the silence to tell them.
        self._loop.say_goodbye()
        self._write_status("stopped")
        log.info("stopped at height %d", self._loop.state.ledger.height)
        return 0

    def stop(self) -> None:
        """Ends `run` soon; may be called from a signal handler."""
        self._queue.put(_Stop())

    def close(self) -> None:
        """Gives everything back."""
        # The links first, so that nothing more comes in; journal and store last, when
        # nobody is left to use them.
        self._link.stop(STOP_TIMEOUT_S)
        self._elsewhere.stop(STOP_TIMEOUT_S)
        self._parts.workers.stop()
        self._parts.votes.close()
        self._parts.store.close()

    def _turn(self) -> None:
        wake_at_s = min(self._loop.wake_at_s, self._monitor.status_at_s)
        wait_s = max(0.0, wake_at_s - self._now_s())
        self._loop.turn(self._items(self._queue.take(wait_s, BATCH_MAX)))
        if self._loop.restarts:
            self.restarts = self._monitor.stopping = True
        if self._now_s() >= self._monitor.status_at_s:
            self._write_status("running")

    def _write_status(self, condition: str) -> None:
        self._monitor.write_status(self._loop, condition)
        self._notifier.status(f"{condition}, height {self._loop.state.ledger.height}")

    def _items(self, letters: Iterable[_Letter]) -> list[Item]:
        """Items for the loop, of what came."""
        items: list[Item] = []
        for letter in letters:
            match letter:
                case PeerBrokerEvent():
                    heard = self._receive_peer_frame(letter)
                    if heard is not None:
                        items.append(heard)
                case _Stop():
                    self._monitor.stopping = True
                case BaseException():
                    raise letter
                case _:
                    items.append(letter)
        return items

    def _receive_peer_frame(self, letter: PeerBrokerEvent) -> PeerFrameArrived | None:
        topics = self._loop.settings.topics
        try:
            return self._elsewhere.take(letter, topics, self._myself)
        except DecodeError as error:
            # Charged to nobody: the topic names its sender, and it could not be read.
            malformed = RecordRefusal(None, Reason.MALFORMED, str(error))
            self._loop.tally.refuse(malformed)
            return None
