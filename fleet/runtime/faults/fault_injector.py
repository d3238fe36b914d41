"""Carries a timeline of faults out on the processes of a fleet."""

from collections import deque

from starling.fleet.attacks.attack_schedule import COLLUDING, board_attacks
from starling.fleet.faults.board_faults import (
    LINK_KINDS,
    LINKS_IN_CONTAINERS,
    BoardFaultKind,
    board_faults,
    is_away,
    is_paused,
)
from starling.fleet.faults.broker_faults import broker_faults
from starling.fleet.faults.fault_timeline import (
    FaultKind,
    FaultOrders,
    orders,
    take_due,
    timeline,
    transitions,
)
from starling.fleet.plan import FleetPlan
from starling.fleet.runtime.faults.byzantine_coordinator import write_fault_orders
from starling.fleet.runtime.processes.home_setup import (
    FleetHomes,
    board_name,
    coordinator_name,
)
from starling.fleet.runtime.processes.supervisor import (
    ProcessSupervisor,
    SupervisedProcess,
)
from starling.protocol.errors import ConfigError

_BY_SUPERVISOR = frozenset({FaultKind.KILL, FaultKind.RESTART})


def refuse_virtual_faults(plan: FleetPlan) -> None:
    """Refuses what can go wrong in a virtual fleet alone.

    Raises:
      ConfigError: If boards are to collude, or a link is to do anything: nobody
        stands between a process and its broker to do that.
    """
    for attack in board_attacks(plan.fault, plan.devices):
        if attack.kind in COLLUDING:
            raise ConfigError(
                f"'{attack.kind.value}' needs to know what others send, which a board "
                "as a process of its own does not; add --virtual",
                key="--fault",
            )
    faults = board_faults(plan.fault, plan.devices)
    if any(each.kind is BoardFaultKind.DROP for each in faults):
        raise ConfigError(
            "links of boards drop messages in a virtual fleet alone; add --virtual",
            key="--fault",
        )
    if any(each.kind in LINK_KINDS for each in faults):
        raise ConfigError(LINKS_IN_CONTAINERS, key="--fault")


class FaultInjector:
    """Faults still to come, and the current ones of each coordinator."""

    def __init__(self, plan: FleetPlan, homes: FleetHomes) -> None:
        """Takes over a plan's timeline.

        Args:
          plan: Of the fleet.
          homes: Of the fleet.
        """
        self._faults = timeline(plan.fault, plan.coordinators)
        self._board_faults = board_faults(plan.fault, plan.devices)
        self._broker_faults = broker_faults(plan.fault, plan.brokers)
        self._homes = homes
        self._numbers = range(1, plan.coordinators + 1)
        self._coming = deque(transitions(self._faults))
        self._coming_to_boards = deque(transitions(self._board_faults))
        self._coming_to_brokers = deque(transitions(self._broker_faults))
        self._given: dict[int, FaultOrders] = {}

    def service(self, number: int) -> SupervisedProcess:
        """Service that starts a coordinator."""
        # The product's own process wherever it can be: what is only killed need not be
        # another.
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
          supervisor: Of brokers, coordinators and boards.

        Returns:
          A line for all that began or ended.
        """
        said = self._to_brokers(time_s, supervisor)
        said += self._to_coordinators(time_s, supervisor)
        return said + self._to_boards(time_s, supervisor)

    def _to_brokers(self, time_s: float, supervisor: ProcessSupervisor) -> list[str]:
        said = []
        for moment in take_due(self._coming_to_brokers, time_s):
            name = self._homes.broker_service(moment.fault.broker).name
            supervisor.kill(name)
            if not moment.fault.kills:
                supervisor.revive(name)
            said.append(moment.text)
        return said

    def _to_coordinators(
        self, time_s: float, supervisor: ProcessSupervisor
    ) -> list[str]:
        said = []
        for moment in take_due(self._coming, time_s):
            name = coordinator_name(moment.fault.coordinator)
            if moment.fault.deed is FaultKind.KILL:
                supervisor.kill(name)
            elif moment.fault.deed is FaultKind.RESTART:
                supervisor.revive(name)
            said.append(moment.text)
        if said:
            self._give_orders(time_s)
        return said

    def _to_boards(self, time_s: float, supervisor: ProcessSupervisor) -> list[str]:
        said = []
        for moment in take_due(self._coming_to_boards, time_s):
            for board in moment.fault.boards:
                name = board_name(board - 1)
                if moment.fault.kind is BoardFaultKind.PAUSE:
                    if moment.begins:
                        supervisor.pause(name)
                    # Where pauses overlap, the end of one is not that of all.
                    elif not is_paused(self._board_faults, board, moment.at_s):
                        supervisor.go_on(name)
                    continue
                if moment.begins:
                    supervisor.kill(name)
                if not is_away(self._board_faults, board, moment.at_s):
                    supervisor.revive(name)
            said.append(moment.text)
        return said

    def _give_orders(self, time_s: float) -> None:
        for number in self._numbers:
            ordered = orders(self._faults, time_s, number)
            # A file that is not there orders nothing, and is not written for nothing.
            if ordered != self._given.get(number, FaultOrders()):
                write_fault_orders(self._homes.orders(number), ordered)
                self._given[number] = ordered
