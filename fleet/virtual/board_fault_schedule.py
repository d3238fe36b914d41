"""A timeline of faults of boards and links, carried out on virtual boards."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol, assert_never

from starling.fleet.board_faults import (
    BoardFault,
    BoardFaultKind,
    BoardFaultTransition,
    board_transitions,
    dropped_share,
    is_away,
)
from starling.fleet.monitor.run_snapshot import RunEvent
from starling.fleet.virtual.event_queue import EventQueue
from starling.protocol.learning.vector_codecs import Draw


class BoardPower(Protocol):
    """Whoever has the boards; numbers count from 0."""

    def lose_power(self, board: int) -> None:
        """A board loses its memory, and starts again."""

    def leave(self, board: int) -> None:
        """A board goes, and takes its disk along."""

    def come_back(self, board: int) -> None:
        """It is there again."""


class BoardFaultSchedule:
    """Faults that are to come, and what each link loses now.

    Attributes:
      events: What began and ended so far.
    """

    def __init__(
        self,
        faults: Sequence[BoardFault],
        fleet: BoardPower,
        agenda: EventQueue,
        draw: Draw,
    ) -> None:
        """Does nothing before `begin`.

        Args:
          faults: The timeline.
          fleet: Has the boards.
          agenda: Virtual time.
          draw: Random bytes; none are drawn for a link that drops nothing.
        """
        self.events: list[RunEvent] = []
        self._faults = faults
        self._fleet = fleet
        self._agenda = agenda
        self._lossy: dict[int, float] = {}
        self._draw = draw

    def begin(self) -> None:
        """Enters all that is to happen; the timeline's times count from now."""
        for moment in board_transitions(self._faults):
            at_s = self._agenda.now_s + moment.at_s
            self._agenda.at(at_s, partial(self._happen, moment))

    def loses(self, board: int) -> bool:
        """True if the next message on a board's link is lost; counts from 0."""
        share = self._lossy.get(board, 0.0)
        if not share:
            return False
        return int.from_bytes(self._draw(4), "little") < share * (1 << 32)

    def _happen(self, moment: BoardFaultTransition) -> None:
        self.events.append(RunEvent(moment.at_s, moment.text))
        for board in moment.fault.boards:
            self._move(moment.fault.kind, board, moment.at_s)
            share = dropped_share(self._faults, board, moment.at_s)
            self._lossy.pop(board - 1, None)
            if share:
                self._lossy[board - 1] = share

    def _move(self, kind: BoardFaultKind, board: int, time_s: float) -> None:
        away = is_away(self._faults, board, time_s)
        match kind:
            case BoardFaultKind.POWER:
                if not away:
                    self._fleet.lose_power(board - 1)
            case BoardFaultKind.LEAVE:
                (self._fleet.leave if away else self._fleet.come_back)(board - 1)
            case BoardFaultKind.DROP:
                pass
            case _:
                assert_never(kind)
