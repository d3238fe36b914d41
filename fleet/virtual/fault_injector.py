"""A timeline of faults, carried out on virtual coordinators, boards and links."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, assert_never

from starling.fleet.faults.board_faults import (
    BoardFault,
    BoardFaultKind,
    dropped_share,
    is_away,
)
from starling.fleet.faults.fault_timeline import (
    AnyFault,
    FaultKind,
    FaultTransition,
    ScheduledFault,
    orders,
    transitions,
)
from starling.fleet.monitor.run_snapshot import RunEvent
from starling.fleet.virtual.event_queue import EventQueue
from starling.fleet.virtual.virtual_coordinator import VirtualCoordinator
from starling.protocol.learning.vector_codecs import Draw

_OF_POWER = frozenset({FaultKind.KILL, FaultKind.RESTART})


def is_byzantine(faults: Sequence[ScheduledFault]) -> bool:
    """True if coordinators must be able to do wrong, and not only to die."""
    return any(fault.deed not in _OF_POWER for fault in faults)


class BoardPower(Protocol):
    """Whoever has the boards; numbers count from 0."""

    def lose_power(self, board: int) -> None:
        """A board loses its memory, and starts again."""

    def leave(self, board: int) -> None:
        """A board goes, and takes its disk along."""

    def come_back(self, board: int) -> None:
        """It is there again."""


class VirtualFaultInjector:
    """Faults that are to come, what each coordinator does wrong and each link loses.

    Attributes:
      events: What began and ended so far.
    """

    def __init__(
        self,
        faults: Sequence[ScheduledFault],
        coordinators: Sequence[VirtualCoordinator],
        board_faults: Sequence[BoardFault],
        fleet: BoardPower,
        agenda: EventQueue,
        draw: Draw,
    ) -> None:
        """Does nothing before `begin`.

        Args:
          faults: The timeline's, of coordinators.
          coordinators: All of them, by number.
          board_faults: The timeline's, of boards and links.
          fleet: Has the boards.
          agenda: Virtual time.
          draw: Random bytes; none are drawn for a link that drops nothing.
        """
        self.events: list[RunEvent] = []
        self._faults = faults
        self._coordinators = coordinators
        self._board_faults = board_faults
        self._fleet = fleet
        self._agenda = agenda
        self._draw = draw
        self._lossy: dict[int, float] = {}

    def begin(self) -> None:
        """Enters all that is to happen; the timeline's times count from now."""
        self._enter(self._faults, self._to_coordinators)
        self._enter(self._board_faults, self._to_boards)

    def loses(self, board: int) -> bool:
        """True if the next message on a board's link is lost; counts from 0."""
        share = self._lossy.get(board, 0.0)
        # No random bytes are drawn: a run without losses stays the same, bit for bit.
        if not share:
            return False
        return int.from_bytes(self._draw(4), "little") < share * (1 << 32)

    def _enter(
        self,
        faults: Sequence[AnyFault],
        happen: Callable[[FaultTransition[AnyFault]], None],
    ) -> None:
        for moment in transitions(faults):
            at_s = self._agenda.now_s + moment.at_s
            self._agenda.at(at_s, partial(happen, moment))

    def _to_coordinators(self, moment: FaultTransition[ScheduledFault]) -> None:
        fault = moment.fault
        self.events.append(RunEvent(moment.at_s, moment.text))
        if fault.deed is FaultKind.KILL:
            self._coordinators[fault.coordinator - 1].kill()
        elif fault.deed is FaultKind.RESTART:
            self._coordinators[fault.coordinator - 1].revive()
        # All of them, since a partition is no single coordinator's.
        for each in self._coordinators:
            each.faults = orders(self._faults, moment.at_s, each.number)

    def _to_boards(self, moment: FaultTransition[BoardFault]) -> None:
        self.events.append(RunEvent(moment.at_s, moment.text))
        for board in moment.fault.boards:
            self._move(moment.fault.kind, board, moment.at_s)
            share = dropped_share(self._board_faults, board, moment.at_s)
            # Anew from the whole timeline: where faults overlap the end of one is not
            # that of all.
            self._lossy.pop(board - 1, None)
            if share:
                self._lossy[board - 1] = share

    def _move(self, kind: BoardFaultKind, board: int, time_s: float) -> None:
        away = is_away(self._board_faults, board, time_s)
        match kind:
            case BoardFaultKind.POWER:
                if not away:
                    self._fleet.lose_power(board - 1)
            case BoardFaultKind.LEAVE:
                (self._fleet.leave if away else self._fleet.come_back)(board - 1)
            case BoardFaultKind.DROP:
                pass
            case BoardFaultKind.PAUSE | BoardFaultKind.DELAY | BoardFaultKind.CARRY:
                raise AssertionError(f"a virtual board does not {kind.value}")
            case _:
                assert_never(kind)
