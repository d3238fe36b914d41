"""Translation of a fault timeline into what docker is to do.

Pure. The language is that of `starling fleet run --fault`; what only processes of
one machine or virtual boards can do is refused with the reason, before it begins.

Coordinators that lie, speak late or are cut off from each other do so as they are
ordered: their containers run `fleet.runtime.faults.byzantine_coordinator`, and an order
is a file in the volume that they share. Links are made late, narrow or lossy by the
service that stands between devices and broker, in the same way.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import TypeVar

from starling.fleet.attacks.attack_schedule import board_attacks
from starling.fleet.containers.compose_plan import (
    BROKER,
    DEVICE,
    LINKS,
    NETWORK,
    ORDERS_FOLDER,
    coordinator_service,
)
from starling.fleet.faults.board_faults import (
    LINK_KINDS,
    BoardFault,
    BoardFaultKind,
    board_faults,
    is_away,
    is_cut,
    is_paused,
)
from starling.fleet.faults.broker_faults import BrokerFault, broker_faults
from starling.fleet.faults.fault_timeline import (
    FaultKind,
    FaultOrders,
    FaultTransition,
    ScheduledFault,
    orders,
    timeline,
    transitions,
)
from starling.fleet.faults.link_shape import LinkOrders, link_orders
from starling.protocol.errors import ConfigError

_BY_DOCKER = frozenset({FaultKind.KILL, FaultKind.RESTART})
_KEY = "TIMELINE"
AnyContainerFault = ScheduledFault | BoardFault | BrokerFault
_OneFault = TypeVar("_OneFault", ScheduledFault, BoardFault, BrokerFault)


class ContainerVerb(Enum):
    """Verb of what docker is to do to one container."""

    KILL = "kill"
    START = "start"
    RESTART = "restart"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    DISCONNECT = "disconnect"
    CONNECT = "connect"
    ORDER = "order"


_TAKE_ORDERS = f"""\
set -e
mkdir -p {ORDERS_FOLDER}
cd {ORDERS_FOLDER}
while read -r service orders; do
    printf %s "$orders" >"$service.new"
    mv "$service.new" "$service"
done"""
"""Puts each line of its input in place as one coordinator's orders."""
_NEEDLESS = {
    ContainerVerb.KILL: "is not running",
    ContainerVerb.PAUSE: "is already paused",
    ContainerVerb.UNPAUSE: "is not paused",
    ContainerVerb.DISCONNECT: "is not connected",
    ContainerVerb.CONNECT: "already exists in network",
}
"""Part of docker's refusal where a container is as it should be already."""
_PASSING = "unable to freeze"
"""Of runc with cgroups of version 1, where a process is just being made."""


@dataclass(frozen=True)
class ContainerAction:
    """One thing that docker is to do.

    Attributes:
      deed: What.
      service: To which service's container; of a coordinator's orders, to any of them.
      number: Which of that service, from 1.
      standing: Orders to hand over, by service; none for any other deed.
    """

    deed: ContainerVerb
    service: str
    number: int = 1
    standing: tuple[tuple[str, FaultOrders | LinkOrders], ...] = ()

    def words(self, container: str, project: str) -> tuple[str, ...]:
        """Words after `docker`; an order's text goes to standard input.

        Args:
          container: Name of the container that it is done to; of orders, of any that
            has the volume.
          project: Name of the fleet.
        """
        network = f"{project}_{NETWORK}"
        match self.deed:
            case ContainerVerb.DISCONNECT:
                return ("network", "disconnect", "--force", network, container)
            case ContainerVerb.CONNECT:
                return ("network", "connect", network, container)
            case ContainerVerb.ORDER:
                return ("exec", "--interactive", container, "sh", "-c", _TAKE_ORDERS)
            case _:
                return (self.deed.value, container)

    @property
    def input(self) -> str:
        """Text for docker's standard input; empty for none."""
        return "".join(
            f"{service} {json.dumps(asdict(given))}\n"
            for service, given in self.standing
        )

    def is_needless(self, refusal: str) -> bool:
        """True if docker refused since the container is so already."""
        sign = _NEEDLESS.get(self.deed, "")
        return bool(sign) and sign in refusal

    def is_passing(self, refusal: str) -> bool:
        """True if docker may do it when it is asked once more."""
        return self.deed is ContainerVerb.PAUSE and _PASSING in refusal


@dataclass(frozen=True)
class ChaosPlan:
    """A timeline for a fleet in containers.

    Attributes:
      coordinators: How many there are.
      faults: Of coordinators.
      board_faults: Of devices and their links.
      broker_faults: Of the broker.
    """

    coordinators: int
    faults: tuple[ScheduledFault, ...]
    board_faults: tuple[BoardFault, ...]
    broker_faults: tuple[BrokerFault, ...]

    def moments(self) -> tuple[FaultTransition[AnyContainerFault], ...]:
        """All beginnings and ends, in the order of their times."""
        every: list[AnyContainerFault] = [
            *self.broker_faults,
            *self.faults,
            *self.board_faults,
        ]
        return transitions(every)

    def ended_early(
        self, coming: Sequence[FaultTransition[AnyContainerFault]], time_s: float
    ) -> "ChaosPlan":
        """The timeline of a run that is over before its time.

        Args:
          coming: The last of `moments`, which did not happen.
          time_s: When all that began, and was to end later, ends.

        Returns:
          Of what began alone: nothing that it would have met later holds it up.
        """
        every = self.moments()
        done = every[: len(every) - len(coming)]
        begun = [moment.fault for moment in done if moment.begins]
        lasting = [moment.fault for moment in coming if not moment.begins]
        return replace(
            self,
            faults=_ends_at(self.faults, begun, lasting, time_s),
            board_faults=_ends_at(self.board_faults, begun, lasting, time_s),
            broker_faults=_ends_at(self.broker_faults, begun, lasting, time_s),
        )

    def first_actions(self) -> tuple[ContainerAction, ...]:
        """Preparation: coordinators that are to be given orders look for them.

        Empty orders for each, and a restart that makes it run in surroundings that
        fail as ordered; nothing if the timeline gives no orders.
        """
        if all(fault.deed in _BY_DOCKER for fault in self.faults):
            return ()
        services = [coordinator_service(n) for n in range(1, self.coordinators + 1)]
        nothing = tuple((each, FaultOrders()) for each in services)
        given = ContainerAction(ContainerVerb.ORDER, services[0], standing=nothing)
        restarts = [ContainerAction(ContainerVerb.RESTART, each) for each in services]
        return (given, *restarts)

    def actions(
        self, moment: FaultTransition[AnyContainerFault]
    ) -> tuple[ContainerAction, ...]:
        """Actions for the time when a fault begins or ends, in their order."""
        fault = moment.fault
        if isinstance(fault, BrokerFault):
            # `restart` also starts one that is down.
            deed = ContainerVerb.KILL if fault.kills else ContainerVerb.RESTART
            return (ContainerAction(deed, BROKER),)
        if isinstance(fault, BoardFault):
            if fault.kind in LINK_KINDS and not fault.cuts:
                shapes = link_orders(self.board_faults, moment.at_s)
                given = ((LINKS, shapes),)
                return (ContainerAction(ContainerVerb.ORDER, LINKS, standing=given),)
            return tuple(
                ContainerAction(deed, DEVICE, board)
                for board in fault.boards
                for deed in self._to_device(fault.kind, board, moment)
            )
        service = coordinator_service(fault.coordinator)
        if fault.deed is FaultKind.KILL:
            return (ContainerAction(ContainerVerb.KILL, service),)
        if fault.deed is FaultKind.RESTART:
            return (ContainerAction(ContainerVerb.START, service),)
        standing = tuple(
            (coordinator_service(number), orders(self.faults, moment.at_s, number))
            for number in range(1, self.coordinators + 1)
        )
        first = coordinator_service(1)
        return (ContainerAction(ContainerVerb.ORDER, first, standing=standing),)

    def _to_device(
        self,
        kind: BoardFaultKind,
        board: int,
        moment: FaultTransition[AnyContainerFault],
    ) -> tuple[ContainerVerb, ...]:
        if kind is BoardFaultKind.PAUSE:
            begin, end, lasts = ContainerVerb.PAUSE, ContainerVerb.UNPAUSE, is_paused
        elif kind is BoardFaultKind.DROP:
            begin, end, lasts = ContainerVerb.DISCONNECT, ContainerVerb.CONNECT, is_cut
        else:
            begin, end, lasts = ContainerVerb.KILL, ContainerVerb.START, is_away
        found = (begin,) if moment.begins else ()
        # Where faults overlap, the end of one is not that of all; and one that loses
        # power starts at once, unless it is away.
        if lasts(self.board_faults, board, moment.at_s):
            return found
        return (*found, end)


def _ends_at(
    faults: tuple[_OneFault, ...],
    begun: Sequence[AnyContainerFault],
    lasting: Sequence[AnyContainerFault],
    time_s: float,
) -> tuple[_OneFault, ...]:
    return tuple(
        replace(fault, until_s=time_s) if fault in lasting else fault
        for fault in faults
        if fault in begun
    )


def chaos_plan(text: str, coordinators: int, devices: int) -> ChaosPlan:
    """Reads a timeline for a fleet in containers.

    Args:
      text: As a user gave it.
      coordinators: How many there are.
      devices: How many there are.

    Raises:
      ConfigError: If an entry is none, names somebody whom there is not, or is nothing
        that containers can do; if there is no entry.
    """
    try:
        return _chaos_plan(text, coordinators, devices)
    except ConfigError as error:
        raise ConfigError(error.detail, key=_KEY) from error


def _chaos_plan(text: str, coordinators: int, devices: int) -> ChaosPlan:
    if board_attacks(text, devices):
        raise ConfigError(
            "a device's container runs the agent as it is, and an attack needs another "
            "trainer: starling fleet run"
        )
    found = ChaosPlan(
        coordinators,
        timeline(text, coordinators),
        board_faults(text, devices),
        broker_faults(text, 1),
    )
    if not found.moments():
        raise ConfigError("has no entry")
    return found
