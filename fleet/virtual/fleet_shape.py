"""Shape of a virtual fleet: its size, its speed, and what goes wrong in it."""

from dataclasses import dataclass, field

import numpy as np

from starling.agent.step.state import WaitTimes
from starling.fleet.faults.board_faults import BoardFault
from starling.fleet.virtual.committee import (
    REPEATING_WAITS,
    STEADY_WAITS,
    CommitteeShape,
)
from starling.fleet.virtual.wake_schedule import Choose, WakeSchedule


@dataclass(frozen=True)
class FleetShape:
    """Size and speed of a virtual fleet.

    Attributes:
      boards: How many.
      awake: How many are in their turn at once.
      waves: See `WakeSchedule`.
      durations_s: Mean of one training of each board, in virtual time.
      jitter: How far single trainings differ from that, as a share of it.
      rest_s: From a turn's end until its place is given to another board.
      committee: Who keeps the chain.
      board_faults: What goes wrong with boards and their links; its times count from
        when the task is open.
      windows: Records in which one raw sample may stand.
      leave_behind: See `WakeSchedule`.
    """

    boards: int
    awake: int
    waves: bool
    durations_s: tuple[float, ...]
    jitter: float = 0.5
    rest_s: float = 0.0
    committee: CommitteeShape = field(default_factory=CommitteeShape)
    windows: int = 1
    leave_behind: bool = False
    board_faults: tuple[BoardFault, ...] = ()

    def wake_schedule(
        self, rng: np.random.Generator, choose: Choose | None = None
    ) -> WakeSchedule:
        """Deals out turns to so many boards.

        Args:
          rng: Decides among equals.
          choose: See `WakeSchedule`.
        """
        return WakeSchedule(
            self.boards,
            self.awake,
            rng,
            waves=self.waves,
            leave_behind=self.leave_behind,
            choose=choose,
        )

    @property
    def steady(self) -> bool:
        """True if everybody is always there, so that nobody repeats anything."""
        return self.committee.steady and not self.board_faults

    @property
    def waits(self) -> WaitTimes:
        """The boards' waits for answers."""
        # Repeats cost events, and where nothing is lost none of them is of use.
        return STEADY_WAITS if self.steady else REPEATING_WAITS
