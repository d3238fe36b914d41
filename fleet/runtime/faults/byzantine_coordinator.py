"""A coordinator that does wrong as it is ordered, to see what the others make of it.

It runs the product's own coordinator; the faults are in what surrounds it: its link to
the broker, its arithmetic and its clock. Orders come in a file that the fleet replaces,
so that they outlive the process.
"""

import heapq
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from starling.broker.link_events import AckToken as MessageToken
from starling.broker.link_events import (
    LinkEvent,
    LinkSettings,
    MqttMessage,
)
from starling.coordinator.aggregation.strategy import ModelState, PackedModel
from starling.coordinator.aggregation.version_computation import Fetch, recompute
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.coordinator.loop.ports import Clock
from starling.coordinator.runtime import process
from starling.coordinator.runtime.environment import (
    Bus,
    CoordinatorEnvironment,
    OpenBus,
    open_link,
    wall_clock_ms,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.durable.files import read_if_present, write_atomic
from starling.fleet.byzantine.faulty_gossip import FaultyGossip, speakers_of
from starling.fleet.byzantine.vote_forger import VoteForger, falsified
from starling.fleet.faults.fault_timeline import FaultOrders
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.errors import (
    LimitError,
    TransportError,
)
from starling.protocol.learning.task import TaskSpec
from starling.protocol.wire.topics import Topics

ORDERS_BYTES_MAX = 64 * 1024
LOOK_EVERY_S = 0.05
_READABLE = 0o644


def write_fault_orders(path: Path, standing: FaultOrders) -> None:
    """Replaces a coordinator's orders.

    Raises:
      StorageError: If the disk refuses.
    """
    write_atomic(path, json.dumps(asdict(standing)).encode(), _READABLE)


class FaultOrderFile:
    """The orders that stand now; looked at again every `LOOK_EVERY_S`."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet; a file that is not there orders nothing."""
        self._path = path
        self._standing = FaultOrders()
        self._look_at_s = 0.0

    def now(self) -> FaultOrders:
        """Current orders; may be called from any thread."""
        now_s = time.monotonic()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_EVERY_S
            content = read_if_present(self._path, ORDERS_BYTES_MAX)
            # A file that is gone changes nothing: orders stand until others come.
            if content is not None:
                document = json.loads(content)
                deaf_to = tuple(document.pop("deaf_to"))
                self._standing = FaultOrders(deaf_to, **document)
        return self._standing


class FaultyBus:
    """A connection that loses, delays and adds gossip as it is ordered."""

    def __init__(
        self,
        settings: LinkSettings,
        on_event: Callable[[LinkEvent], None],
        standing: Callable[[], FaultOrders],
        forger: VoteForger,
        topics: Topics,
        speakers: Mapping[str, int],
        open_bus: OpenBus = open_link,
    ) -> None:
        """Opens the real connection.

        Args:
          settings: Of the connection.
          on_event: Told of what happens on it.
          standing: The orders.
          forger: For second votes.
          topics: Of the fleet.
          speakers: Of its coordinators, as for `FaultyGossip`.
          open_bus: Makes the real connection.
        """
        gossip = FaultyGossip(
            on_event, standing, forger, topics, speakers, self._send_late
        )
        self._bus: Bus = open_bus(settings, gossip.happened)
        self._gossip = gossip.over(self._bus)
        self._late: list[tuple[float, int, MqttMessage]] = []
        self._count = itertools.count()
        self._woken = threading.Condition()
        self._stopped = False
        self._postman = threading.Thread(target=self._deliver_late, daemon=True)

    def start(self) -> None:
        """Begins to connect."""
        self._bus.start()
        self._postman.start()

    def stop(self, timeout_s: float) -> None:
        """Ends the connection; what is late is lost."""
        with self._woken:
            self._stopped = True
            self._woken.notify()
        self._bus.stop(timeout_s)

    def acknowledge_many(self, tokens: Iterable[MessageToken]) -> None:
        """As the real connection."""
        self._gossip.acknowledge_many(tokens)

    def publish(self, message: MqttMessage) -> int:
        """Sends a message, or keeps it back and says that it was sent."""
        return self._gossip.publish(message)

    def _send_late(self, delay_s: float, message: MqttMessage) -> None:
        with self._woken:
            entry = (time.monotonic() + delay_s, next(self._count), message)
            heapq.heappush(self._late, entry)
            self._woken.notify()

    def _deliver_late(self) -> None:
        with self._woken:
            while not self._stopped:
                now_s = time.monotonic()
                while self._late and self._late[0][0] <= now_s:
                    self._let_go(heapq.heappop(self._late)[2])
                # By the clock of this round: what became due meanwhile is let go in the
                # next.
                wait_s = self._late[0][0] - now_s if self._late else None
                self._woken.wait(wait_s)

    def _let_go(self, message: MqttMessage) -> None:
        try:
            self._bus.publish(message)
        except (TransportError, LimitError):
            # Gossip may be lost at any time, and this was late anyway.
            return


def surroundings(
    home: CoordinatorHome, orders: FaultOrderFile
) -> CoordinatorEnvironment:
    """The world of a coordinator that does as it is ordered.

    Raises:
      ConfigError: If the home is none.
    """
    genesis = home.genesis()
    forger = VoteForger(home.signing_key(), genesis.chain_id())
    topics, speakers = Topics(genesis.fleet), speakers_of(genesis.validators)

    def open_bus(settings: LinkSettings, on_event: Callable[[LinkEvent], None]) -> Bus:
        return FaultyBus(settings, on_event, orders.now, forger, topics, speakers)

    def compute(
        key: OpeningKey,
        spec: TaskSpec,
        job: AggregationJob,
        before: ModelState,
        fetch: Fetch,
    ) -> PackedModel:
        made = recompute(key, spec, job, before, fetch)
        return falsified(made) if orders.now().lies else made

    def now_ms() -> int:
        return wall_clock_ms() + round(1000 * orders.now().clock_s)

    return CoordinatorEnvironment(open_bus, compute, Clock(time.monotonic, now_ms))


def main(argv: Sequence[str]) -> int:
    """Runs the coordinator in a folder.

    Args:
      argv: The folder and the file of its orders.
    """
    home = CoordinatorHome(Path(argv[0]))
    return process.run(home, surroundings(home, FaultOrderFile(Path(argv[1]))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
