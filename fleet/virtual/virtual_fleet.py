"""A virtual fleet: boards, coordinators, and the brokers between them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from starling.coordinator.chain.state import (
    board_records,
    rollback_records,
    task_records,
)
from starling.coordinator.chain.state.state_table import StateReader
from starling.coordinator.chain.tasks import evaluations, reputations
from starling.coordinator.step.events import VersionEvaluated
from starling.coordinator.task_file.task_settings import TaskPublication
from starling.fleet.monitor.consensus_monitor import ConsensusMonitor
from starling.fleet.monitor.coordinator_point import held_out_loss
from starling.fleet.monitor.run_snapshot import DevicePoint, RunEvent, RunSnapshot
from starling.fleet.virtual import fleet_snapshot
from starling.fleet.virtual.committee import CommitteeKeys
from starling.fleet.virtual.event_queue import EventQueue
from starling.fleet.virtual.fault_injector import VirtualFaultInjector, is_byzantine
from starling.fleet.virtual.fleet_boards import FleetBoards
from starling.fleet.virtual.fleet_shape import FleetShape
from starling.fleet.virtual.own_rule import (
    CheckedSelection,
    OwnRules,
    WaitingBoard,
)
from starling.fleet.virtual.stored_blobs import StoredBlobs
from starling.fleet.virtual.version_log import Metrics, VersionLog
from starling.fleet.virtual.virtual_coordinator import (
    CoordinatorWorld,
    VirtualCoordinator,
    holds,
)
from starling.fleet.virtual.virtual_network import VirtualNetwork, broker_of
from starling.fleet.virtual.workload import Workload
from starling.protocol.chain.genesis import Genesis
from starling.protocol.ids import DeviceId, TaskId, Version, device_name
from starling.protocol.learning.task import TASK
from starling.protocol.learning.vector_codecs import Draw
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import PPM, REGISTER, Register
from starling.protocol.wire.topics import Topics

FLEET = "virtual"
MONITOR_EVERY_S = 0.25
_TASK = TaskId(0)


@dataclass
class VirtualFleet:
    """All of it; a function of its arguments and of what the labour returns.

    Attributes:
      shape: How large and how quick.
      task: What is trained.
      labour: Who trains.
      draw: Random bytes for keys and envelopes.
      rng: Decides the order of turns.
      clock: Time for the versions' record, since the task is open; virtual time by
        default.
      rules: Of whoever simulates; `WakeSchedule` asks the one of selection.
      genesis: Of the chain.
      coordinators: By number.
      boards: All of them, and whose turn it is.
      versions: Final ones.
      begun_s: Virtual time at which the task was open.
    """

    shape: FleetShape
    task: TaskPublication
    labour: Workload
    draw: Draw
    rng: np.random.Generator
    clock: Callable[[], float] | None = None
    rules: OwnRules = field(default_factory=OwnRules)
    agenda: EventQueue = field(default_factory=EventQueue)
    coordinators: list[VirtualCoordinator] = field(default_factory=list)
    genesis: Genesis = field(init=False)
    versions: VersionLog = field(init=False)
    blobs: StoredBlobs = field(init=False)
    begun_s: float = 0.0
    _council: ConsensusMonitor = field(default_factory=ConsensusMonitor)
    _found: list[RunEvent] = field(default_factory=list)
    _operated: int = 0
    _turns: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Admits all boards and publishes the task; nobody is awake yet."""
        committee = self.shape.committee
        keys = CommitteeKeys.make(committee.coordinators, self.draw)
        self._operator = keys.operator
        self.genesis = keys.genesis(FLEET, committee)
        own = self.rules.selector
        choose = None if own is None else partial(self._choose, own)
        roster = self.shape.wake_schedule(self.rng, choose)
        self.versions = VersionLog(self.labour, self._evaluated)
        self.network = VirtualNetwork(
            Topics(FLEET),
            lambda name, message: self.boards.receive(name, message),
            lambda broker, manifest: self.boards.deliver_manifest(broker, manifest),
        )
        numbers = range(1, committee.coordinators + 1)
        self.coordinators.extend(self._coordinator(keys, each) for each in numbers)
        self.network.join(self.coordinators)
        self.blobs = StoredBlobs(self.coordinators)
        self.boards = FleetBoards(
            self.shape,
            roster,
            self.agenda,
            self.network,
            self.blobs,
            self.labour,
            self.genesis,
            self.task.spec.privacy,
            self.draw,
            self.rng,
            lambda board: self.faults.loses(board),
            self._is_rolled_back,
        )
        self.faults = VirtualFaultInjector(
            committee.faults,
            self.coordinators,
            self.shape.board_faults,
            self.boards,
            self.agenda,
            self.draw,
        )
        # Before the faults' clock runs: a timeline's times count from when the task is
        # open.
        self._admit_boards()
        self._publish_task()

    @property
    def version(self) -> int:
        """Newest final version; 0 also before the task is open."""
        return max(0, self.versions.head)

    @property
    def elapsed_s(self) -> float:
        """Virtual time since the task is open."""
        return self.agenda.now_s - self.begun_s

    @property
    def identities(self) -> tuple[DeviceId, ...]:
        """Ids of the boards, by their number."""
        return tuple([key.identity for key in self.boards.keys])

    @property
    def losses(self) -> list[float | None]:
        """On held-out examples, of each version; None while it is not evaluated."""
        return self.versions.losses

    @property
    def inference(self) -> bytes:
        """The newest model's average, (d,) little-endian float32."""
        return self.blobs[self.foremost.state.tasks[_TASK].model.inference]

    @property
    def spent(self) -> int:
        """Boards whose budget is spent."""
        return self.boards.spent

    def barred(self, run_s: float) -> int:
        """Boards with budget left that are in quarantine for a whole run more.

        Args:
          run_s: The most that a run takes.
        """
        tree = self._highest.state.ledger.tree
        then_ms = int(1000 * (self.agenda.now_s + run_s))
        left = set(range(self.shape.boards)) - self.boards.roster.retired
        known = [
            reputations.reputation(tree, self.boards.keys[each].identity)
            for each in left
        ]
        return sum(each.is_quarantined(then_ms) for each in known)

    @property
    def paused(self) -> bool:
        """True if the task pauses, so that no board gets another lease."""
        return evaluations.paused(self._highest.state.ledger.tree, _TASK)

    @property
    def _highest(self) -> VirtualCoordinator:
        return max(self.coordinators, key=lambda each: each.state.ledger.height)

    @property
    def foremost(self) -> VirtualCoordinator:
        """The coordinator that knows the newest version."""
        return max(
            (each for each in self.coordinators if _TASK in each.state.tasks),
            key=lambda each: each.state.tasks[_TASK].head,
        )

    def advance(self) -> bool:
        """Does the next thing; False if nothing will ever happen again."""
        return self.agenda.advance()

    def finish(self) -> None:
        """Waits for the last evaluation, and lets the coordinators note it."""
        self.versions.finish()
        self.agenda.settle()

    def verify(self) -> bool:
        """True if all chains hold, checked from their first blocks, and agree."""
        chains = [
            [row.header for row in each.store.rows()] for each in self.coordinators
        ]
        longest = max(chains, key=len)
        # One that was away is behind, which is no disagreement.
        agree = all(chain == longest[: len(chain)] for chain in chains)
        return agree and all(holds(each) for each in self.coordinators)

    def _coordinator(self, keys: CommitteeKeys, number: int) -> VirtualCoordinator:
        committee = self.shape.committee
        world = CoordinatorWorld(
            self.agenda,
            self.versions,
            self.draw,
            self.network.from_coordinator,
            self._version_began,
            is_byzantine(committee.faults),
            self.rules.aggregator,
        )
        settings = keys.settings(number, self.genesis, committee, self.draw)
        settings = replace(settings, root=next(iter(self.task.spec.scores.roots), None))
        broker = broker_of(number, committee.brokers)
        return VirtualCoordinator(number, broker, settings, world)

    def _operate(self, kind: MessageKind, body: bytes) -> None:
        """The first coordinator's operator signs something."""
        self._operated += 1
        chain_id = self.genesis.chain_id()
        envelope = sign(self._operator, chain_id, kind, self._operated, body)
        name = f"{self._operated:06}.tx"
        self.coordinators[0].operate(name, ENVELOPE.pack(envelope))

    def _admit_boards(self) -> None:
        for key in self.boards.keys:
            self._operate(MessageKind.REGISTER, REGISTER.pack(Register(key.public)))
        for each in self.coordinators:
            while board_records.board_count(each.state.ledger.tree) < self.shape.boards:
                assert self.agenda.advance()

    def _publish_task(self) -> None:
        store = self.coordinators[0].store
        with store.transaction():
            for part in (self.task.bundle, *self.task.model.parts()):
                store.put_blob(part)
        self._operate(MessageKind.TASK, TASK.pack(self.task.spec))

    def _version_began(self) -> None:
        head = self.versions.head
        if head == 0:
            self._open()
        if self.clock:
            self.versions.times_s[head] = self.clock() + self.begun_s
        # After this turn of the coordinator, which is in the middle of its effects.
        self.agenda.soon(lambda: self.boards.wake(version_began=True))

    def _choose(
        self, selector: CheckedSelection, asleep: list[int], places: int, least: int
    ) -> list[int]:
        """Boards that a rule of one's own wakes; see `wake_schedule.Choose`."""
        tree = self._highest.state.ledger.tree
        taken = selector([self._waiting(tree, each) for each in asleep], places, least)
        self._turns.update(dict.fromkeys(taken, self.version))
        return taken

    def _waiting(self, tree: StateReader, number: int) -> WaitingBoard:
        device, made = self.boards.keys[number].identity, self.boards.made.get(number)
        last = self._turns.get(number)
        return WaitingBoard(
            number,
            device_name(device),
            self.labour.examples(number),
            self.shape.durations_s[number],
            0 if made is None else made.trained,
            None if last is None else self.version - last,
            reputations.reputation(tree, device).expectation_ppm / PPM,
        )

    def _evaluated(self, version: Version, metrics: Metrics) -> None:
        for each in self.coordinators:
            each.put(VersionEvaluated(_TASK, version, *metrics))

    def _open(self) -> None:
        """The task is open: from now on the timeline's times count."""
        self.begun_s = self.agenda.now_s
        self.faults.begin()
        if not self.shape.committee.steady:
            self._look()

    def _look(self) -> None:
        """Notices what the coordinators find out."""
        points = fleet_snapshot.coordinator_points(self.coordinators)
        time_s = self.elapsed_s
        said = self._council.look(time_s, points, self._quorum)
        self._found += [RunEvent(time_s, text) for text in said]
        self.agenda.at(self.agenda.now_s + MONITOR_EVERY_S, self._look)

    @property
    def _quorum(self) -> int:
        return self.coordinators[0].state.ledger.validator.quorum

    def _is_rolled_back(self) -> bool:
        """True if the newest version came from a rollback."""
        tree = self._highest.state.ledger.tree
        newest = rollback_records.newest_rollback(tree, _TASK)
        return 0 < newest == task_records.head(tree, _TASK)

    def snapshot(self, time_s: float) -> RunSnapshot:
        """The fleet now.

        Args:
          time_s: Since the task is open.
        """
        privacy = self.task.spec.privacy
        return RunSnapshot(
            time_s,
            fleet_snapshot.version_points(
                self.coordinators, self.versions, privacy, self.begun_s
            ),
            tuple(self._device_point(number) for number in range(self.shape.boards)),
            fleet_snapshot.coordinator_points(self.coordinators),
            events=tuple(
                sorted([*self.faults.events, *self._found], key=lambda it: it.time_s)
            ),
            pauses=self._council.pauses,
            quorum=self._quorum,
            held_out=held_out_loss(self._highest.status()),
        )

    def _device_point(self, number: int) -> DevicePoint:
        return fleet_snapshot.device_point(
            number + 1,
            self.boards.keys[number].identity,
            self.boards.made.get(number),
            self.coordinators,
            asleep=number not in self.boards.awake,
            private=bool(self.task.spec.privacy.mechanism),
        )
