"""A timeline of faults, carried out on virtual coordinators."""

from collections.abc import Sequence
from functools import partial

from starling.fleet.fault_timeline import (
    FaultKind,
    FaultTransition,
    ScheduledFault,
    moments,
    orders,
)
from starling.fleet.monitor.run_snapshot import RunEvent
from starling.fleet.virtual.event_queue import EventQueue
from starling.fleet.virtual.virtual_coordinator import VirtualCoordinator

_OF_POWER = frozenset({FaultKind.KILL, FaultKind.RESTART})


def is_byzantine(faults: Sequence[ScheduledFault]) -> bool:
    """True if coordinators must be able to do wrong, and not only to die."""
    return any(fault.deed not in _OF_POWER for fault in faults)


class FaultSchedule:
    """Faults that are to come, and what each coordinator is to do wrong now.

    Attributes:
      events: What began and ended so far.
    """

    def __init__(
        self,
        faults: Sequence[ScheduledFault],
        coordinators: Sequence[VirtualCoordinator],
        agenda: EventQueue,
    ) -> None:
        """Does nothing before `begin`.

        Args:
          faults: The timeline.
          coordinators: All of them, by number.
          agenda: Virtual time.
        """
        self.events: list[RunEvent] = []
        self._faults = faults
        self._coordinators = coordinators
        self._agenda = agenda

    def begin(self) -> None:
        """Enters all that is to happen; the timeline's times count from now."""
        for moment in moments(self._faults):
            at_s = self._agenda.now_s + moment.at_s
            self._agenda.at(at_s, partial(self._happen, moment))

    def ordered(self, number: int) -> str:
        """Orders of a coordinator, for people; empty without any."""
        return self._coordinators[number - 1].faults.text

    def _happen(self, moment: FaultTransition) -> None:
        fault = moment.fault
        self.events.append(RunEvent(moment.at_s, moment.text))
        if fault.deed is FaultKind.KILL:
            self._coordinators[fault.coordinator - 1].kill()
        elif fault.deed is FaultKind.RESTART:
            self._coordinators[fault.coordinator - 1].revive()
        for each in self._coordinators:
            each.faults = orders(self._faults, moment.at_s, each.number)
