"""Boards of a virtual fleet: whose turn it is, who is up, and what reaches whom."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from starling.agent.step.state import AgentSettings, ReadinessCondition
from starling.broker.link_events import MessageArrived, MqttMessage
from starling.fleet.virtual.event_queue import EventQueue
from starling.fleet.virtual.fleet_shape import FleetShape
from starling.fleet.virtual.virtual_board import BlobLookup, VirtualBoard
from starling.fleet.virtual.virtual_network import VirtualNetwork, broker_of
from starling.fleet.virtual.wake_schedule import WakeSchedule
from starling.fleet.virtual.workload import Workload
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.light_client import pin
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import TaskId
from starling.protocol.learning.task import LABEL_RESPONSE, PrivacyPolicy
from starling.protocol.learning.vector_codecs import Draw

_TASK = TaskId(0)
_SPENT = (ReadinessCondition.BUDGET_SPENT, ReadinessCondition.POLICY_REFUSED)


@dataclass
class FleetBoards:
    """All boards; each is made when it first wakes.

    Attributes:
      shape: How many, and how quick.
      roster: Deals out turns.
      agenda: Virtual time.
      network: The brokers.
      blobs: What coordinators have stored.
      labour: Who trains.
      genesis: Of the chain.
      privacy: Of the task.
      draw: Random bytes for keys and envelopes.
      rng: For the length of trainings.
      loses: Whether the next message on a board's link is lost; counts from 0.
      is_rolled_back: Whether the newest version came from a rollback.
      keys: Of every board, by its number from 0 on.
      made: Boards that have been awake, by number.
    """

    shape: FleetShape
    roster: WakeSchedule
    agenda: EventQueue
    network: VirtualNetwork
    blobs: BlobLookup
    labour: Workload
    genesis: Genesis
    privacy: PrivacyPolicy
    draw: Draw
    rng: np.random.Generator
    loses: Callable[[int], bool]
    is_rolled_back: Callable[[], bool]
    keys: list[SigningKey] = field(init=False)
    made: dict[int, VirtualBoard] = field(default_factory=dict)
    _by_name: dict[str, VirtualBoard] = field(default_factory=dict)
    _turn_updates: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Draws the keys; nobody is awake yet."""
        # All at once and first, so that a board's key does not depend on who wakes
        # when.
        self.keys = [SigningKey(self.draw(32)) for _ in range(self.shape.boards)]

    @property
    def awake(self) -> set[int]:
        """Boards in their turn."""
        return self.roster.awake

    @property
    def spent(self) -> int:
        """Boards whose budget is spent."""
        return len(self.roster.retired)

    def publish(self, board: VirtualBoard, message: MqttMessage) -> None:
        """See `fleet.virtual.virtual_board.BoardEnvironment`."""
        # What boards show of themselves is read from memory here.
        if not message.retain and not self.loses(board.number):
            self.network.from_board(self._broker(board.number), message)

    def settled(self, board: VirtualBoard) -> None:
        """See `BoardEnvironment`: a board that has nothing left to do rests."""
        number, state = board.number, board.state
        if number not in self.roster.awake or state.waiting or state.training:
            return
        took_part = board.trained > self._turn_updates.get(number, 0)
        # It has its turn until something came of it: an answer may be on its way.
        if not (took_part or state.refusal or board.turned_away):
            return
        spent = state.refusal in _SPENT
        self.roster.rest(number, took_part=took_part, spent=spent)
        if self.shape.rest_s:
            free_s = self.agenda.now_s + self.shape.rest_s
            self.agenda.at(free_s, lambda: self.wake(version_began=False))
        else:
            self.agenda.soon(lambda: self.wake(version_began=False))

    def wake(self, *, version_began: bool) -> None:
        """Gives turns to the boards that are next.

        Args:
          version_began: Whether a new version has just become final.
        """
        for number in self.roster.next_boards(version_began=version_began):
            board = self.made.get(number) or self._make(number)
            if not board.up:
                board.start()
            self._turn_updates[number] = board.trained
            self._deliver_newest(board)

    def _deliver_newest(self, board: VirtualBoard) -> None:
        """Gives a board the retained manifest; its link may lose it."""
        manifest = self.network.manifests.get(self._broker(board.number))
        # Where none is retained yet, it comes as soon as there is one.
        if manifest is not None and not self.loses(board.number):
            board.turn(manifest)

    def lose_power(self, board: int) -> None:
        """See `fleet.virtual.fault_injector.BoardPower`."""
        found = self.made.get(board)
        if found is None or not found.up:
            return
        found.lose_power()
        # One that sleeps starts when it wakes.
        if board in self.roster.awake:
            found.start()
            self._deliver_newest(found)

    def leave(self, board: int) -> None:
        """See `BoardPower`; another board takes its turn."""
        found = self.made.get(board)
        if found is not None and found.up:
            found.lose_power()
        self.roster.leave(board)
        self.agenda.soon(lambda: self.wake(version_began=False))

    def come_back(self, board: int) -> None:
        """See `BoardPower`; it sleeps until its turn."""
        self.roster.come_back(board)
        self.agenda.soon(lambda: self.wake(version_began=False))

    def _broker(self, board: int) -> int:
        return broker_of(board + 1, self.shape.committee.brokers)

    def _make(self, number: int) -> VirtualBoard:
        privacy = self.privacy
        draws = privacy.mechanism == LABEL_RESPONSE
        settings = AgentSettings(
            key=self.keys[number],
            topics=self.network.topics,
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
        self.made[number] = board
        self._by_name[settings.device] = board
        return board

    def receive(self, name: str, message: MessageArrived) -> None:
        """Something comes for one board, by its name; its link may lose it."""
        board = self._by_name[name]
        if board.up and not self.loses(board.number):
            board.soon(message)

    def deliver_manifest(self, broker: int, manifest: MessageArrived) -> None:
        """A manifest comes for all boards of a broker that are awake."""
        # Who trains, or waits for its proof, hears of it at its next turn.
        for number in sorted(self.roster.awake):
            board = self.made[number]
            idle = not board.state.training and not board.state.waiting
            # After a rollback what was trained, or waits, is worth nothing any more.
            if (
                (idle or self.is_rolled_back())
                and self._broker(number) == broker
                and not self.loses(number)
            ):
                board.soon(manifest)
