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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from starling.broker.link_events import AckToken as MessageToken
from starling.broker.link_events import (
    Delivered,
    LinkEvent,
    LinkSettings,
    MessageArrived,
    MqttMessage,
)
from starling.coordinator.aggregation.strategy import ModelState, PackedModel
from starling.coordinator.aggregation.version_computation import Fetch, recompute
from starling.coordinator.chain import gossip_messages
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
from starling.coordinator.wire.frames import FRAME, Frame, FrameSubject
from starling.durable.files import read_if_present, write_atomic
from starling.protocol.chain.blocks import VOTE, Vote
from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.errors import (
    DecodeError,
    LimitError,
    ProtocolError,
    TransportError,
)
from starling.protocol.ids import BlockHash, ChainId
from starling.protocol.learning.task import TaskSpec
from starling.protocol.wire.topics import Topics

ORDERS_BYTES_MAX = 64 * 1024
LOOK_EVERY_S = 0.05
_READABLE = 0o644


@dataclass(frozen=True)
class ActiveFaults:
    """`fleet.fault_timeline.FaultOrders` as a process gets them.

    Attributes:
      deaf_to: Names of the coordinators that it cannot hear.
      delay_s: How late what it tells others leaves.
      equivocates: Whether it votes twice.
      lies: Whether it changes the models that it computes.
      clock_s: How far its wall clock is off.
    """

    deaf_to: tuple[str, ...] = ()
    delay_s: float = 0.0
    equivocates: bool = False
    lies: bool = False
    clock_s: float = 0.0


def write_fault_orders(path: Path, standing: ActiveFaults) -> None:
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
        self._standing = ActiveFaults()
        self._look_at_s = 0.0

    def now(self) -> ActiveFaults:
        """Current orders; may be called from any thread."""
        now_s = time.monotonic()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_EVERY_S
            content = read_if_present(self._path, ORDERS_BYTES_MAX)
            if content is not None:
                document = json.loads(content)
                deaf_to = tuple(document.pop("deaf_to"))
                self._standing = ActiveFaults(deaf_to, **document)
        return self._standing


@dataclass(frozen=True)
class VoteForger:
    """Votes that contradict those which a coordinator has cast.

    Attributes:
      key: The coordinator's.
      chain_id: The chain.
    """

    key: SigningKey
    chain_id: ChainId

    def contradiction(self, payload: bytes) -> bytes | None:
        """A message with a second vote, if this one holds a vote of ours.

        Args:
          payload: A packed frame, as it is gossiped.
        """
        vote = vote_in(payload)
        if vote is None or not self._cast(vote):
            return None
        other = None if vote.block_id is not None else BlockHash(self.chain_id)
        second = replace(vote, block_id=other)
        signature = self.key.sign(second.signed_bytes(self.chain_id))
        message = gossip_messages.wrap_vote(replace(second, signature=signature))
        return FRAME.pack(Frame(FrameSubject.LEDGER, message))

    def is_own(self, payload: bytes) -> bool:
        """True if a received message has a vote with our own signature."""
        vote = vote_in(payload)
        return vote is not None and self._cast(vote)

    def _cast(self, vote: Vote) -> bool:
        return self.key.sign(vote.signed_bytes(self.chain_id)) == vote.signature


def vote_in(payload: bytes) -> Vote | None:
    """The vote in a packed frame; None if it holds something else."""
    try:
        frame = FRAME.unpack(payload)
        if frame.subject != FrameSubject.LEDGER:
            return None
        message = gossip_messages.MESSAGE.unpack(frame.content)
        return (
            VOTE.unpack(message.content)
            if message.topic == gossip_messages.GossipTopic.VOTE
            else None
        )
    except ProtocolError:
        return None


class FaultyBus:
    """A connection that loses, delays and adds gossip as it is ordered."""

    def __init__(
        self,
        settings: LinkSettings,
        on_event: Callable[[LinkEvent], None],
        standing: Callable[[], ActiveFaults],
        forger: VoteForger,
        topics: Topics,
        open_bus: OpenBus = open_link,
    ) -> None:
        """Opens the real connection.

        Args:
          settings: Of the connection.
          on_event: Told of what happens on it.
          standing: The orders.
          forger: For second votes.
          topics: Of the fleet.
          open_bus: Makes the real connection.
        """
        self._bus: Bus = open_bus(settings, self._happened)
        self._on_event = on_event
        self._standing = standing
        self._forger = forger
        self._topics = topics
        self._late: list[tuple[float, int, MqttMessage]] = []
        # Real connections count up from 1, so these never meet theirs.
        self._ids = itertools.count(-1, -1)
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
        self._bus.acknowledge_many(tokens)

    def publish(self, message: MqttMessage) -> int:
        """Sends a message, or keeps it back and says that it was sent."""
        standing = self._standing()
        if self._speaker(message.topic) is None:
            return self._bus.publish(message)
        if standing.equivocates:
            second = self._forger.contradiction(message.payload)
            if second is not None:
                self._send(standing, replace(message, payload=second))
        if not standing.delay_s:
            return self._bus.publish(message)
        publish_id = self._send(standing, message)
        self._on_event(Delivered(publish_id, 0))
        return publish_id

    def _send(self, standing: ActiveFaults, message: MqttMessage) -> int:
        publish_id = next(self._ids)
        with self._woken:
            at_s = time.monotonic() + standing.delay_s
            heapq.heappush(self._late, (at_s, -publish_id, message))
            self._woken.notify()
        return publish_id

    def _deliver_late(self) -> None:
        with self._woken:
            while not self._stopped:
                now_s = time.monotonic()
                while self._late and self._late[0][0] <= now_s:
                    self._let_go(heapq.heappop(self._late)[2])
                wait_s = self._late[0][0] - now_s if self._late else None
                self._woken.wait(wait_s)

    def _let_go(self, message: MqttMessage) -> None:
        try:
            self._bus.publish(message)
        except (TransportError, LimitError):
            # Gossip may be lost at any time, and this was late anyway.
            return

    def _happened(self, event: LinkEvent) -> None:
        if isinstance(event, MessageArrived) and self._is_lost(event):
            self._bus.acknowledge_many((event.token,))
            return
        self._on_event(event)

    def _is_lost(self, event: MessageArrived) -> bool:
        speaker = self._speaker(event.topic)
        if speaker is None:
            return False
        standing = self._standing()
        if speaker in standing.deaf_to:
            return True
        # An honest core that hears a vote of its key which it never cast falls silent.
        return standing.equivocates and self._forger.is_own(event.payload)

    def _speaker(self, topic: str) -> str | None:
        """Coordinator whose gossip is on a topic; None for another topic."""
        try:
            branch, whose, _ = self._topics.parse(topic)
        except DecodeError:
            return None
        return whose if branch == "g" else None


def falsified(model: PackedModel) -> PackedModel:
    """The model with its first number changed by one."""
    changed = bytes([model.theta[0] ^ 1]) + model.theta[1:]
    return replace(model, theta=changed)


def surroundings(
    home: CoordinatorHome, orders: FaultOrderFile
) -> CoordinatorEnvironment:
    """The world of a coordinator that does as it is ordered.

    Raises:
      ConfigError: If the home is none.
    """
    genesis = home.genesis()
    forger = VoteForger(home.signing_key(), genesis.chain_id())
    topics = Topics(genesis.fleet)

    def open_bus(settings: LinkSettings, on_event: Callable[[LinkEvent], None]) -> Bus:
        return FaultyBus(settings, on_event, orders.now, forger, topics)

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
