"""A virtual fleet: boards, coordinators, and the brokers between them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from starling.agent.step.state import AgentSettings, ReadinessCondition
from starling.broker.link_events import MessageArrived, MqttMessage
from starling.coordinator.chain.state import (
    board_records,
    rollback_records,
    task_records,
)
from starling.coordinator.chain.training import evaluations
from starling.coordinator.publication.task_settings import TaskPublication
from starling.coordinator.step.events import VersionEvaluated
from starling.fleet.monitor.consensus_monitor import ConsensusMonitor
from starling.fleet.monitor.coordinator_point import held_out_loss
from starling.fleet.monitor.run_snapshot import DevicePoint, RunEvent, RunSnapshot
from starling.fleet.virtual import fleet_snapshot
from starling.fleet.virtual.committee import CommitteeKeys
from starling.fleet.virtual.event_queue import EventQueue
from starling.fleet.virtual.fault_schedule import FaultSchedule, is_byzantine
from starling.fleet.virtual.fleet_shape import FleetShape
from starling.fleet.virtual.stored_blobs import StoredBlobs
from starling.fleet.virtual.version_log import Metrics, VersionLog
from starling.fleet.virtual.virtual_board import VirtualBoard
from starling.fleet.virtual.virtual_coordinator import (
    CoordinatorWorld,
    VirtualCoordinator,
    holds,
)
from starling.fleet.virtual.virtual_network import VirtualNetwork, broker_of
from starling.fleet.virtual.wake_schedule import WakeSchedule
from starling.fleet.virtual.workload import Workload
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.light_client import pin
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import DeviceId, TaskId, Version
from starling.protocol.learning.task import LABEL_RESPONSE, TASK
from starling.protocol.learning.vector_codecs import Draw
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register
from starling.protocol.wire.topics import Topics

FLEET = "virtual"
MONITOR_EVERY_S = 0.25
_TASK = TaskId(0)
_SPENT = (ReadinessCondition.BUDGET_SPENT, ReadinessCondition.POLICY_REFUSED)


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
      genesis: Of the chain.
      coordinators: By number.
      versions: Final ones.
      begun_s: Virtual time at which the task was open.
    """

    shape: FleetShape
    task: TaskPublication
    labour: Workload
    draw: Draw
    rng: np.random.Generator
    clock: Callable[[], float] | None = None
    agenda: EventQueue = field(default_factory=EventQueue)
    coordinators: list[VirtualCoordinator] = field(default_factory=list)
    genesis: Genesis = field(init=False)
    versions: VersionLog = field(init=False)
    blobs: StoredBlobs = field(init=False)
    begun_s: float = 0.0
    _boards: dict[int, VirtualBoard] = field(default_factory=dict)
    _by_name: dict[str, VirtualBoard] = field(default_factory=dict)
    _keys: list[SigningKey] = field(default_factory=list)
    _turn_updates: dict[int, int] = field(default_factory=dict)
    _council: ConsensusMonitor = field(default_factory=ConsensusMonitor)
    _found: list[RunEvent] = field(default_factory=list)
    _operated: int = 0

    def __post_init__(self) -> None:
        """Admits all boards and publishes the task; nobody is awake yet."""
        committee = self.shape.committee
        keys = CommitteeKeys.make(committee.coordinators, self.draw)
        self._operator = keys.operator
        self.genesis = keys.genesis(FLEET, committee)
        self._topics = Topics(FLEET)
        self._roster = WakeSchedule(
            self.shape.boards,
            self.shape.awake,
            self.rng,
            waves=self.shape.waves,
            leave_behind=self.shape.leave_behind,
        )
        self.versions = VersionLog(self.labour, self._evaluated)
        self.network = VirtualNetwork(self._topics, self._to_board, self._to_all_boards)
        numbers = range(1, committee.coordinators + 1)
        self.coordinators.extend(self._coordinator(keys, each) for each in numbers)
        self.network.join(self.coordinators)
        self.blobs = StoredBlobs(self.coordinators)
        self.faults = FaultSchedule(
            committee.faults,
            self.coordinators,
            self.shape.board_faults,
            self,
            self.agenda,
            self.draw,
        )
        self._keys = [SigningKey(self.draw(32)) for _ in range(self.shape.boards)]
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
        return tuple([key.identity for key in self._keys])

    @property
    def losses(self) -> list[float | None]:
        """On held-out examples, of each version; None while it is not evaluated."""
        return self.versions.losses

    @property
    def inference(self) -> bytes:
        """The newest model's average, (d,) little-endian float32."""
        return self.blobs[self.foremost.state.tasks[_TASK].model.inference]

    @property
    def exhausted(self) -> bool:
        """True if no board can take part again."""
        return len(self._roster.retired) == self.shape.boards

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
        for key in self._keys:
            self._operate(MessageKind.REGISTER, REGISTER.pack(Register(key.public)))
        for each in self.coordinators:
            while board_records.board_count(each.state.ledger.tree) < len(self._keys):
                assert self.agenda.advance()

    def _publish_task(self) -> None:
        store = self.coordinators[0].store
        with store.transaction():
            for part in (self.task.bundle, *self.task.model.parts()):
                store.put_blob(part)
        self._operate(MessageKind.TASK, TASK.pack(self.task.spec))

    def publish(self, board: VirtualBoard, message: MqttMessage) -> None:
        """See `fleet.virtual.virtual_board.BoardEnvironment`."""
        # What boards show of themselves is read from memory here.
        if not message.retain and not self.faults.loses(board.number):
            self.network.from_board(self._broker(board.number), message)

    def settled(self, board: VirtualBoard) -> None:
        """See `BoardEnvironment`: a board that has nothing left to do rests."""
        number, state = board.number, board.state
        if number not in self._roster.awake or state.waiting or state.training:
            return
        took_part = board.trained > self._turn_updates.get(number, 0)
        if not (took_part or state.refusal or board.turned_away):
            return
        spent = state.refusal in _SPENT
        self._roster.rest(number, took_part=took_part, spent=spent)
        if self.shape.rest_s:
            free_s = self.agenda.now_s + self.shape.rest_s
            self.agenda.at(free_s, lambda: self._wake(version_began=False))
        else:
            self.agenda.soon(lambda: self._wake(version_began=False))

    def _broker(self, board: int) -> int:
        return broker_of(board + 1, self.shape.committee.brokers)

    def _version_began(self) -> None:
        head = self.versions.head
        if head == 0:
            self._open()
        if self.clock:
            self.versions.times_s[head] = self.clock() + self.begun_s
        self.agenda.soon(lambda: self._wake(version_began=True))

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
        return self.coordinators[0].state.ledger.party.quorum

    def _wake(self, *, version_began: bool) -> None:
        for number in self._roster.next_boards(version_began=version_began):
            board = self._boards.get(number) or self._make(number)
            if not board.up:
                board.start()
            self._turn_updates[number] = board.trained
            self._tell_newest(board)

    def _tell_newest(self, board: VirtualBoard) -> None:
        """Gives a board the retained manifest; its link may lose it."""
        manifest = self.network.manifests.get(self._broker(board.number))
        # Where none is retained yet, it comes as soon as there is one.
        if manifest is not None and not self.faults.loses(board.number):
            board.turn(manifest)

    def lose_power(self, board: int) -> None:
        """See `fleet.virtual.fault_schedule.BoardPower`."""
        found = self._boards.get(board)
        if found is None or not found.up:
            return
        found.lose_power()
        # One that sleeps starts when it wakes.
        if board in self._roster.awake:
            found.start()
            self._tell_newest(found)

    def leave(self, board: int) -> None:
        """See `BoardPower`; another board takes its turn."""
        found = self._boards.get(board)
        if found is not None and found.up:
            found.lose_power()
        self._roster.leave(board)
        self.agenda.soon(lambda: self._wake(version_began=False))

    def come_back(self, board: int) -> None:
        """See `BoardPower`; it sleeps until its turn."""
        self._roster.come_back(board)
        self.agenda.soon(lambda: self._wake(version_began=False))

    def _make(self, number: int) -> VirtualBoard:
        privacy = self.task.spec.privacy
        draws = privacy.mechanism == LABEL_RESPONSE
        settings = AgentSettings(
            key=self._keys[number],
            topics=self._topics,
            task=_TASK,
            boot=1,
            seed=self.draw(32),
            pledge=self.labour.examples(number),
            windows=self.shape.windows,
            labels_micro=privacy.epsilon_micro if draws else 0,
            infer=False,
            pace=self.shape.waits,
        )
        mean_s, jitter = self.shape.durations_s[number], self.shape.jitter

        def duration_s() -> float:
            return mean_s * (1 + float(self.rng.uniform(-jitter, jitter)))

        board = VirtualBoard(number, settings, self, pin(self.genesis), duration_s)
        self._boards[number] = board
        self._by_name[settings.device] = board
        return board

    def _to_board(self, name: str, message: MessageArrived) -> None:
        board = self._by_name[name]
        if board.up and not self.faults.loses(board.number):
            board.soon(message)

    def _to_all_boards(self, broker: int, manifest: MessageArrived) -> None:
        # Who trains, or waits for its proof, hears of it at its next turn.
        for number in sorted(self._roster.awake):
            board = self._boards[number]
            idle = not board.state.training and not board.state.waiting
            # After a rollback what was trained, or waits, is worth nothing any more.
            if (
                (idle or self._rolled_back)
                and self._broker(number) == broker
                and not self.faults.loses(number)
            ):
                board.soon(manifest)

    @property
    def _rolled_back(self) -> bool:
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
            self._keys[number].identity,
            self._boards.get(number),
            self.coordinators,
            asleep=number not in self._roster.awake,
            private=bool(self.task.spec.privacy.mechanism),
        )
