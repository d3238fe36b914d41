"""Carries a timeline of faults out on the processes of a fleet."""

from collections import deque

from starling.fleet.fault_timeline import (
    FaultKind,
    FaultOrders,
    ScheduledFault,
    moments,
    orders,
)
from starling.fleet.runtime.faults.byzantine_coordinator import write_fault_orders
from starling.fleet.runtime.processes.home_setup import FleetHomes, coordinator_name
from starling.fleet.runtime.processes.supervisor import (
    ProcessSupervisor,
    SupervisedProcess,
)

_BY_SUPERVISOR = frozenset({FaultKind.KILL, FaultKind.RESTART})


class FaultInjector:
    """Faults still to come, and the current ones of each coordinator."""

    def __init__(
        self, faults: tuple[ScheduledFault, ...], homes: FleetHomes, coordinators: int
    ) -> None:
        """Takes over a timeline.

        Args:
          faults: The timeline.
          homes: Of the fleet.
          coordinators: How many.
        """
        self._faults = faults
        self._homes = homes
        self._numbers = range(1, coordinators + 1)
        self._coming = deque(moments(faults))
        self._given: dict[int, FaultOrders] = {}

    def service(self, number: int) -> SupervisedProcess:
        """Service that starts a coordinator."""
        if all(fault.deed in _BY_SUPERVISOR for fault in self._faults):
            return self._homes.coordinator_service(number)
        return self._homes.faulty_service(number)

    def ordered(self, number: int) -> str:
        """Current faults of a coordinator, for people."""
        given = self._given.get(number)
        return given.text if given else ""

    def carry_out(self, time_s: float, supervisor: ProcessSupervisor) -> list[str]:
        """Does what is due.

        Args:
          time_s: Since the task is open.
          supervisor: Of the coordinators.

        Returns:
          A line for all that began or ended.
        """
        said = []
        while self._coming and self._coming[0].at_s <= time_s:
            moment = self._coming.popleft()
            name = coordinator_name(moment.fault.coordinator)
            if moment.fault.deed is FaultKind.KILL:
                supervisor.kill(name)
            elif moment.fault.deed is FaultKind.RESTART:
                supervisor.revive(name)
            said.append(moment.text)
        if said:
            self._give_orders(time_s)
        return said

    def _give_orders(self, time_s: float) -> None:
        for number in self._numbers:
            ordered = orders(self._faults, time_s, number)
            if ordered != self._given.get(number, FaultOrders()):
                write_fault_orders(self._homes.orders(number), ordered)
                self._given[number] = ordered
