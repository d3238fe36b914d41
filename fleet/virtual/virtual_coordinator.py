"""A coordinator whose world is memory: the product's own loop, in virtual time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from starling.broker.link_events import (
    AckToken,
    Delivered,
    LinkConnected,
    MessageArrived,
    MqttMessage,
)
from starling.coordinator.aggregation.contribution_scores import scores_of
from starling.coordinator.aggregation.strategy import ModelState, PackedModel
from starling.coordinator.aggregation.strategy_registry import AggregationRule
from starling.coordinator.aggregation.version_computation import Fetch, recompute
from starling.coordinator.chain.gossip_messages import NONCE_BYTES
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.coordinator.chain.verification.chain_replay import (
    CheckedBlock,
    check_rows,
)
from starling.coordinator.health.consensus_status import attested, consensus
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.loop.event_loop import CoordinatorLoop, first_counter
from starling.coordinator.loop.memory_ports import (
    MemoryInbox,
    MemoryVoteJournal,
    SilentMonitor,
)
from starling.coordinator.loop.ports import (
    Clock,
    Item,
    LoopPorts,
    MessageBus,
    ScoringInputs,
    Work,
)
from starling.coordinator.models import held_out_losses
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore  # noqa: TID251 - one in memory touches nothing
from starling.coordinator.step.effects import EvaluateVersion
from starling.coordinator.step.events import (
    Event,
    PeerFrameArrived,
    ScoringFailed,
    VersionScored,
)
from starling.coordinator.step.state import CoordinatorSettings, CoordinatorState
from starling.fleet.byzantine.faulty_gossip import FaultyGossip, speakers_of
from starling.fleet.byzantine.vote_forger import VoteForger, falsified
from starling.fleet.faults.fault_timeline import FaultOrders
from starling.fleet.virtual.event_queue import EventQueue
from starling.fleet.virtual.version_log import VersionLog
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import TaskId, device_from_name
from starling.protocol.learning.task import TaskSpec
from starling.protocol.learning.vector_codecs import Draw

LISTEN_S = 2.5
"""As `coordinator.runtime.assembly.LISTEN_S`, at every start but the first."""
VERSIONS_KEPT = 64
"""Boards read a base here when they begin to train on it, a few versions later."""
_PACKET_BYTES_MAX = 131_072
_NEVER_S = float("inf")
_TASK = TaskId(0)


@dataclass(frozen=True)
class CoordinatorWorld:
    """The world that virtual coordinators share.

    Attributes:
      agenda: Virtual time.
      versions: Told of final versions, and evaluates them.
      draw: Random bytes.
      send: Takes what a coordinator publishes.
      on_version: Called when a version has become final.
      faulty: Whether some of them are to do wrong.
      rule: A rule of aggregation that no task can name; None for the task's.
    """

    agenda: EventQueue
    versions: VersionLog
    draw: Draw
    send: Callable[["VirtualCoordinator", MqttMessage], None]
    on_version: Callable[[], None]
    faulty: bool = False
    rule: AggregationRule | None = None


@dataclass
class VirtualCoordinator:
    """One virtual coordinator; store, votes, inbox and counters outlive its deaths.

    Attributes:
      number: From 1.
      broker: Which one it is a client of, from 1.
      settings: Of its core, but for what each start draws anew.
      world: What it shares with the others.
      faults: What it is to do wrong now.
      up: Whether it runs.
      loop: Of this life, or of the last one.
    """

    number: int
    broker: int
    settings: CoordinatorSettings
    world: CoordinatorWorld
    faults: FaultOrders = field(default_factory=FaultOrders)
    up: bool = False
    loop: CoordinatorLoop = field(init=False)
    store: SqliteStore = field(init=False)
    votes: MemoryVoteJournal = field(default_factory=MemoryVoteJournal)
    inbox: MemoryInbox = field(default_factory=MemoryInbox)
    tally: CoordinatorCounters = field(init=False)
    _life: int = 0
    _items: list[Item] = field(default_factory=list)
    _due: bool = False
    _alarm_s: float = _NEVER_S

    def __post_init__(self) -> None:
        """Starts with an empty disk."""
        self.store = SqliteStore.in_memory(self.settings.ledger.genesis)
        self.tally = CoordinatorCounters(0, lambda: self.world.agenda.now_s)
        self.start()

    @property
    def name(self) -> str:
        """In topics."""
        return self.settings.name

    @property
    def state(self) -> CoordinatorState:
        """Of its core."""
        return self.loop.state

    def start(self) -> None:
        """Starts from what its store and its journal hold."""
        self._life += 1
        self.up, self._due, self._alarm_s = True, False, _NEVER_S
        self._items.clear()
        self.inbox.reopen()
        counter, agenda = first_counter(self._life), self.world.agenda
        ledger = replace(
            self.settings.ledger,
            # With an empty journal there is no vote of ours that others could have and
            # we lack.
            listen_s=LISTEN_S if self._life > 1 else 0.0,
            status_from=counter,
            nonce=self.world.draw(NONCE_BYTES),
        )
        ports = LoopPorts(
            Clock(lambda: agenda.now_s, self._now_ms),
            self.store,
            self.votes,
            self.inbox,
            _VirtualJobs(self),
            _VersionMonitor(self),
            self.put,
            # One core keeps it as long as it lives, and nobody looks for it later.
            lambda proof: None,
            self._compute,
        )
        settings = replace(self.settings, ledger=ledger)
        self.loop = CoordinatorLoop(settings, ports, counter, VERSIONS_KEPT, self.tally)
        self.loop.begin(self._open_bus())
        self.put(LinkConnected(_PACKET_BYTES_MAX, False, 0))

    def kill(self) -> None:
        """Ends at once; what was not stored is lost, and what comes is not heard."""
        self.up = False
        self._life += 1
        self._items.clear()

    def revive(self) -> None:
        """Starts again, unless it runs."""
        if not self.up:
            self.start()

    def put(self, item: Item) -> None:
        """Hands it something for its next turn, which is now."""
        if self.up:
            self._items.append(item)
            self._turn_soon()

    def happened(self, event: MessageArrived, broker: int) -> None:
        """A message of another coordinator, or of a board, is on one of the brokers.

        Args:
          event: The message.
          broker: Over which of its links it comes; 0 is that to its own broker.
        """
        if self._gossip is not None and self._gossip.is_lost(event):
            return
        if not broker:
            self.put(event)
            return
        _, whose, _ = self.settings.topics.parse(event.topic)
        self.put(PeerFrameArrived(device_from_name(whose), event.payload, broker))

    def operate(self, name: str, content: bytes) -> None:
        """The operator drops a transaction."""
        self.inbox.drop(name, content)
        self._turn_soon()

    def later(self, wait_s: float, action: Callable[[], None]) -> None:
        """Does something after a while, if this life lasts that long."""
        life = self._life

        def act() -> None:
            if life == self._life:
                action()

        agenda = self.world.agenda
        if wait_s > 0.0:
            agenda.at(agenda.now_s + wait_s, act)
        else:
            agenda.soon(act)

    def status(self) -> dict[str, Any]:
        """As much of a coordinator's status document as a fleet looks at."""
        state, settings = self.state, self.loop.settings
        header = state.ledger.header
        return {
            "id": self.name,
            "chain": {
                "height": state.ledger.height,
                "tip": header.block_id().hex() if header else None,
                "state_root": header.state_root.hex() if header else None,
            },
            "consensus": consensus(settings, state, self.world.agenda.now_s),
            "finality_s": median(state.finalities_s) if state.finalities_s else None,
            "tasks": [
                {
                    "head": task.head,
                    "attested": attested(settings, state, number),
                    "held_out": held_out_losses.shown(state.ledger.tree, task),
                }
                for number, task in sorted(state.tasks.items())
            ],
        }

    def _open_bus(self) -> MessageBus:
        bus = _VirtualBus(self)
        self._gossip: FaultyGossip | None = None
        if not self.world.faulty:
            return bus
        ledger = self.settings.ledger
        self._gossip = FaultyGossip(
            self.put,
            lambda: self.faults,
            VoteForger(ledger.key, ledger.chain_id),
            self.settings.topics,
            speakers_of(ledger.genesis.validators),
            lambda wait_s, message: self.later(wait_s, lambda: bus.say(message)),
        )
        return self._gossip.over(bus)

    def _now_ms(self) -> int:
        # A clock that is set back shows no time before 1970.
        return max(0, int(1000 * (self.world.agenda.now_s + self.faults.clock_s)))

    def _compute(
        self,
        key: OpeningKey,
        spec: TaskSpec,
        job: AggregationJob,
        before: ModelState,
        fetch: Fetch,
    ) -> PackedModel:
        made = recompute(key, spec, job, before, fetch, self.world.rule)
        # After the honest work: it takes as long, and only the digest tells.
        return falsified(made) if self.faults.lies else made

    def _turn_soon(self) -> None:
        if self.up and not self._due:
            self._due = True
            self.later(0.0, self._turn)

    def _turn(self) -> None:
        self._due = False
        items, self._items = self._items, []
        self.loop.turn(items)
        if self.loop.restarts:
            self.start()
        self._set_alarm()

    def _set_alarm(self) -> None:
        now_s, wake_at_s = self.world.agenda.now_s, self.loop.wake_at_s
        if wake_at_s <= now_s:
            self._turn_soon()
        elif wake_at_s < self._alarm_s:
            self._alarm_s = wake_at_s
            self.later(wake_at_s - now_s, lambda: self._ring(wake_at_s))

    def _ring(self, set_for_s: float) -> None:
        if set_for_s == self._alarm_s:
            self._alarm_s = _NEVER_S
            self._turn_soon()


def holds(coordinator: VirtualCoordinator) -> bool:
    """True if a coordinator's whole chain holds, checked from its genesis on."""
    rows = list(coordinator.store.rows())
    found = list(check_rows(coordinator.store.genesis, rows))
    return len(found) == len(rows) and isinstance(found[-1], CheckedBlock)


class _VirtualBus:
    """A connection that loses nothing and is never slow."""

    def __init__(self, owner: VirtualCoordinator) -> None:
        self._owner = owner
        self._published = 0

    def publish(self, message: MqttMessage) -> int:
        self._published += 1
        self._owner.put(Delivered(self._published, 0))
        self.say(message)
        return self._published

    def say(self, message: MqttMessage) -> None:
        """Sends a message that nobody waits for."""
        self._owner.world.send(self._owner, message)

    def acknowledge_many(self, tokens: Iterable[AckToken]) -> None:
        """Nothing is ever sent twice."""


class _VirtualJobs:
    """Does long work at once; evaluations are the whole fleet's."""

    evaluates = True

    def __init__(self, owner: VirtualCoordinator) -> None:
        self._owner = owner

    def aggregate(self, work: Work) -> None:
        self._owner.later(0.0, lambda: self._owner.put(work()))

    def examine(self, work: Work) -> None:
        self._owner.later(0.0, lambda: self._owner.put(work()))

    def evaluate(self, asked: EvaluateVersion, bundle: bytes, inference: bytes) -> None:
        del bundle
        self._owner.world.versions.evaluate(asked.version, inference)

    def score(self, inputs: ScoringInputs) -> None:
        self._owner.later(0.0, lambda: self._owner.put(self._scored(inputs)))

    def _scored(self, inputs: ScoringInputs) -> Event:
        asked, root = inputs.asked, self._owner.world.versions.labour.root
        assert root is not None, "only who has a root set is asked"
        try:
            values = scores_of(inputs.spec, inputs.theta, inputs.opened(), root)
        except ProtocolError as error:
            return ScoringFailed(asked.task, asked.version, str(error))
        return VersionScored(asked.task, asked.version, values)


class _VersionMonitor(SilentMonitor):
    """Tells the fleet of final versions."""

    def __init__(self, owner: VirtualCoordinator) -> None:
        self._owner = owner

    def versions_changed(self) -> None:
        world, tasks = self._owner.world, self._owner.state.tasks
        head = tasks[_TASK].head
        if world.versions.reached(head, world.agenda.now_s):
            world.on_version()
