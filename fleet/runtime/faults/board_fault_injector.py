"""Carries faults of boards out on the processes of a fleet."""

from collections import deque
from collections.abc import Sequence

from starling.fleet.board_faults import (
    BoardFault,
    BoardFaultKind,
    board_transitions,
    is_away,
)
from starling.fleet.runtime.processes.home_setup import board_name
from starling.fleet.runtime.processes.supervisor import ProcessSupervisor
from starling.protocol.errors import ConfigError


def refuse_lossy_links(faults: Sequence[BoardFault]) -> None:
    """Refuses what nobody stands between a process and its broker to do.

    Raises:
      ConfigError: If a link is to drop messages.
    """
    if any(each.kind is BoardFaultKind.DROP for each in faults):
        raise ConfigError(
            "links of boards drop messages in a virtual fleet alone; add --virtual",
            key="--fault",
        )


class BoardFaultInjector:
    """Faults of boards that are still to come."""

    def __init__(self, faults: Sequence[BoardFault]) -> None:
        """Takes over a timeline."""
        self._faults = faults
        self._coming = deque(board_transitions(faults))

    def carry_out(self, time_s: float, supervisor: ProcessSupervisor) -> list[str]:
        """Does what is due.

        Args:
          time_s: Since the task is open.
          supervisor: Of the boards.

        Returns:
          A line for all that began or ended.
        """
        said = []
        while self._coming and self._coming[0].at_s <= time_s:
            moment = self._coming.popleft()
            said.append(moment.text)
            for board in moment.fault.boards:
                name = board_name(board - 1)
                if moment.begins:
                    supervisor.kill(name)
                if not is_away(self._faults, board, moment.at_s):
                    supervisor.revive(name)
        return said
