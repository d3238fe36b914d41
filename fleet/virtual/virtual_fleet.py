"""A virtual fleet: boards, one coordinator, and the link between them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from starling.agent.step import effects as do
from starling.agent.step import events as happened
from starling.agent.step.state import AgentSettings, ReadinessCondition, WaitTimes
from starling.coordinator.publication.task_settings import TaskPublication
from starling.coordinator.step import events as c
from starling.fleet.monitor.run_snapshot import (
    CoordinatorPoint,
    DevicePoint,
    RunSnapshot,
    VersionPoint,
)
from starling.fleet.virtual.event_queue import EventQueue
from starling.fleet.virtual.virtual_board import VirtualBoard
from starling.fleet.virtual.virtual_coordinator import (
    CoordinatorKeys,
    VersionRecord,
    VirtualCoordinator,
)
from starling.fleet.virtual.wake_schedule import WakeSchedule
from starling.fleet.virtual.workload import Workload
from starling.protocol.chain.light_client import pin
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import Digest, TaskId, device_name
from starling.protocol.learning.task import E12, MICRO, TaskSpec
from starling.protocol.learning.vector_codecs import Draw
from starling.protocol.privacy.mechanisms import epsilon_shown
from starling.protocol.wire.message_bodies import DevicePhase
from starling.protocol.wire.topics import Topics

FLEET = "virtual"
_TASK = TaskId(0)
# What a board shows of itself is read from memory: it need not sign and show it. How
# long a training takes is drawn, not measured: there is nothing to hide.
_PACE = WaitTimes(
    check_in_s=600.0,
    fetch_s=60.0,
    accept_s=600.0,
    final_s=3600.0,
    show_s=float("inf"),
    release_s=0.0,
)
_SPENT = (ReadinessCondition.BUDGET_SPENT, ReadinessCondition.POLICY_REFUSED)


@dataclass(frozen=True)
class FleetShape:
    """Size and speed of a virtual fleet.

    Attributes:
      boards: How many.
      awake: How many are in their turn at once.
      waves: See `WakeSchedule`.
      durations_s: Mean of one training of each board, in virtual time.
      jitter: How far single trainings differ from that, as a share of it.
    """

    boards: int
    awake: int
    waves: bool
    durations_s: tuple[float, ...]
    jitter: float = 0.5


@dataclass
class VirtualFleet:
    """All of it; a function of its arguments and of what the labour returns.

    Attributes:
      shape: How large and how quick.
      task: What is trained.
      labour: Who trains.
      draw: Random bytes for keys and envelopes.
      rng: Decides the order of turns.
      clock: Time for the versions' record; virtual time by default.
    """

    shape: FleetShape
    task: TaskPublication
    labour: Workload
    draw: Draw
    rng: np.random.Generator
    clock: Callable[[], float] | None = None
    agenda: EventQueue = field(default_factory=EventQueue)
    hub: VirtualCoordinator = field(init=False)
    wholes: dict[Digest, bytes] = field(init=False)
    _boards: dict[int, VirtualBoard] = field(default_factory=dict)
    _by_name: dict[str, VirtualBoard] = field(default_factory=dict)
    _keys: list[SigningKey] = field(default_factory=list)
    _turn_updates: dict[int, int] = field(default_factory=dict)
    _manifest: bytes = b""
    _times: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Admits all boards and publishes the task; nobody is awake yet."""
        keys = CoordinatorKeys.make(self.draw)
        self._topics = Topics(FLEET)
        self._roster = WakeSchedule(
            self.shape.boards, self.shape.awake, self.rng, waves=self.shape.waves
        )
        self.hub = VirtualCoordinator(
            keys,
            keys.genesis(FLEET),
            self.agenda,
            self.labour,
            self._send,
            self.draw,
            self._version_began,
        )
        self.wholes = self.hub.wholes
        self._keys = [SigningKey(self.draw(32)) for _ in range(self.shape.boards)]
        for key in self._keys:
            self.hub.register(key)
        while len(self.hub.chain) == 0 or self.hub.state.ledger.mempool.size:
            assert self.agenda.advance()
        self.hub.publish(self.task)

    @property
    def version(self) -> int:
        """Newest final version."""
        return self.hub.head

    @property
    def inference(self) -> bytes:
        """The newest model's average, (d,) little-endian float32."""
        return self.wholes[self.hub.state.tasks[_TASK].model.inference]

    @property
    def exhausted(self) -> bool:
        """True if no board can take part again."""
        return len(self._roster.retired) == self.shape.boards

    def advance(self) -> bool:
        """Does the next thing; False if nothing will ever happen again."""
        return self.agenda.advance()

    def publish(
        self, board: VirtualBoard, effect: do.PublishBestEffort | bytes
    ) -> None:
        """See `fleet.virtual.virtual_board.BoardEnvironment`."""
        device = board.settings.key.identity
        event: c.Event
        if isinstance(effect, bytes):
            event = c.ChunkArrived(device, effect)
        elif effect.topic.endswith("/say"):
            event = c.BoardMessageArrived(device, effect.payload)
        else:
            # What boards show of themselves is read from memory here.
            return
        self.agenda.soon(lambda: self.hub.step(event))

    def settled(self, board: VirtualBoard) -> None:
        """See `BoardEnvironment`: a board that has nothing left to do rests."""
        number, state = board.number, board.state
        if number not in self._roster.awake or state.waiting or state.training:
            return
        took_part = board.trained > self._turn_updates.get(number, 0)
        if not took_part and state.refusal is None:
            return
        spent = state.refusal in _SPENT
        self._roster.rest(number, took_part=took_part, spent=spent)
        self.agenda.soon(lambda: self._wake(version_began=False))

    def _version_began(self) -> None:
        self._times[self.hub.head] = self.clock() if self.clock else self.agenda.now_s
        self.agenda.soon(lambda: self._wake(version_began=True))

    def _wake(self, *, version_began: bool) -> None:
        for number in self._roster.next_boards(version_began=version_began):
            board = self._boards.get(number) or self._make(number)
            self._turn_updates[number] = board.trained
            board.hear(self._manifest, happened.ManifestArrived(self._manifest))

    def _make(self, number: int) -> VirtualBoard:
        settings = AgentSettings(
            key=self._keys[number],
            topics=self._topics,
            task=_TASK,
            boot=1,
            seed=self.draw(32),
            pledge=self.labour.examples(number),
            infer=False,
            pace=_PACE,
        )
        mean_s, jitter = self.shape.durations_s[number], self.shape.jitter

        def duration_s() -> float:
            return mean_s * (1 + float(self.rng.uniform(-jitter, jitter)))

        board = VirtualBoard(number, settings, self, pin(self.hub.genesis), duration_s)
        self._boards[number] = board
        self._by_name[settings.device] = board
        return board

    def _send(self, topic: str, payload: bytes, retain: bool) -> None:
        branch, name, leaf = self._topics.parse(topic)
        if branch == "t":
            self._manifest = payload
            # Who trains, or waits for its proof, hears of it at its next turn.
            for number in sorted(self._roster.awake):
                board = self._boards[number]
                if not board.state.training and not board.state.waiting:
                    self._deliver(board, payload, leaf)
        elif branch == "d":
            assert not retain
            self._deliver(self._by_name[name], payload, leaf)

    def _deliver(self, board: VirtualBoard, payload: bytes, leaf: str) -> None:
        event: happened.Event
        if leaf == "manifest":
            event = happened.ManifestArrived(payload)
        elif leaf == "model":
            event = happened.ModelChunkArrived(payload)
        else:
            event = happened.DownArrived(payload)
        self.agenda.soon(lambda: board.hear(payload, event))

    def snapshot(self, time_s: float) -> RunSnapshot:
        """Snapshot of the fleet now."""
        spec = self.task.spec
        header = self.hub.state.ledger.header
        coordinator = CoordinatorPoint(
            self.hub.settings.name,
            self.hub.state.ledger.height,
            "" if header is None else header.block_id().hex(),
            "" if header is None else header.state_root.hex(),
        )
        return RunSnapshot(
            time_s,
            tuple(self._version_point(spec, record) for record in self.hub.versions),
            tuple(self._device_point(number) for number in range(self.shape.boards)),
            (coordinator,),
        )

    def _version_point(self, spec: TaskSpec, record: VersionRecord) -> VersionPoint:
        private = bool(spec.privacy.mechanism)
        delta = spec.privacy.delta_e12 / E12
        accuracy, loss = record.score or (None, None)
        staleness = record.staleness_milli / 1000 if record.updates else None
        return VersionPoint(
            record.version,
            self._times.get(record.version, record.at_s),
            record.updates,
            accuracy,
            loss,
            staleness,
            epsilon_shown(record.charge_max, (spec.privacy,), delta)
            if private
            else None,
        )

    def _device_point(self, number: int) -> DevicePoint:
        key = self._keys[number].identity
        board = self._boards.get(number)
        refused = self.hub.refused.get(key, Counter[str]())
        if board is None:
            return DevicePoint(
                device_name(key), refused=dict(refused), number=number + 1
            )
        private = bool(self.task.spec.privacy.mechanism)
        asleep = number not in self._roster.awake
        return DevicePoint(
            board.name,
            DevicePhase.SLEEPING if asleep else board.phase,
            None if board.state.offer is None else board.state.offer.version,
            self.hub.accepted[key],
            dict(refused),
            board.state.spent_micro / MICRO if private else 0.0,
            board.bytes_up,
            board.bytes_down,
            number + 1,
        )
