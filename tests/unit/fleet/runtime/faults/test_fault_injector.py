"""A timeline is carried out on real processes, and orders reach who they are for."""

from pathlib import Path

import pytest

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import identify
from starling.fleet.faults.fault_timeline import FaultOrders
from starling.fleet.plan import FleetPlan
from starling.fleet.runtime.faults.byzantine_coordinator import FaultOrderFile
from starling.fleet.runtime.faults.fault_injector import (
    FaultInjector,
    refuse_virtual_faults,
)
from starling.fleet.runtime.processes.home_setup import (
    FleetHomes,
    board_name,
    clear,
    coordinator_name,
)
from starling.fleet.runtime.processes.supervisor import (
    ProcessSupervisor,
    SupervisedProcess,
)
from starling.protocol.errors import ConfigError

COUNT, BOARDS = 2, 3
FAULTY = "starling.fleet.runtime.faults.byzantine_coordinator"


class PausedServices(ProcessSupervisor):
    """Supervises nothing, and knows who is to stand still."""

    def __init__(self) -> None:
        super().__init__()
        self.paused: set[str] = set()

    def pause(self, name: str) -> None:
        self.paused.add(name)

    def go_on(self, name: str) -> None:
        self.paused.discard(name)


def plan(fault: str) -> FleetPlan:
    return FleetPlan(devices=BOARDS, buffer=1, coordinators=COUNT, fault=fault)


def made(path: Path) -> FleetHomes:
    """Homes of two coordinators."""
    homes = clear(path / "fleet")
    for number in range(1, COUNT + 1):
        home = CoordinatorHome(homes.coordinator_at(number))
        identify(home, f"coordinator {number}")
    return homes


def start_sleeper(supervisor: ProcessSupervisor, name: str, folder: Path) -> None:
    command = ("/bin/sh", "-c", "exec sleep 60")
    supervisor.start(SupervisedProcess(name, command, folder / f"{name}.log"))


def board_pids(supervisor: ProcessSupervisor) -> list[int | None]:
    return [supervisor.pid(board_name(number)) for number in range(BOARDS)]


def orders(homes: FleetHomes, number: int) -> FaultOrders:
    return FaultOrderFile(homes.orders(number)).now()


def test_harm_gives_orders_when_their_time_comes_and_takes_them_back(
    tmp_path: Path,
) -> None:
    homes = made(tmp_path)
    text = "partition 1 | 2 from 2s to 4s; coordinator 2 lies from 3s"
    harm = FaultInjector(plan(text), homes)
    with ProcessSupervisor() as supervisor:
        assert harm.carry_out(1.9, supervisor) == []
        assert orders(homes, 1) == FaultOrders()
        (said,) = harm.carry_out(2.0, supervisor)
        assert said == "coordinators 1 | 2 are cut off from each other"
        assert orders(homes, 1) == FaultOrders((2,))
        assert orders(homes, 2) == FaultOrders((1,))
        assert len(harm.carry_out(9.0, supervisor)) == 2
    assert orders(homes, 1) == FaultOrders()
    assert orders(homes, 2) == FaultOrders(lies=True)
    assert (harm.ordered(1), harm.ordered(2)) == ("", "lies")


def test_harm_restarts_a_broker_and_pauses_a_board(tmp_path: Path) -> None:
    text = "restart broker at 1s; kill broker at 2s; board 2 pauses from 1s to 3s"
    harm = FaultInjector(plan(text), made(tmp_path))
    with ProcessSupervisor() as supervisor:
        for name in ("broker", board_name(1)):
            start_sleeper(supervisor, name, tmp_path)
        before, board = supervisor.pid("broker"), supervisor.pid(board_name(1))
        said = harm.carry_out(1.0, supervisor)
        assert said == ["broker 1 is started again", "board 2 pauses"]
        assert supervisor.pid("broker") not in {None, before}
        harm.carry_out(2.0, supervisor)
        assert supervisor.pid("broker") is None
        assert harm.carry_out(3.0, supervisor) == ["board 2 goes on"]
        assert supervisor.pid(board_name(1)) == board


def test_harm_kills_and_starts_again(tmp_path: Path) -> None:
    text = "kill coordinator 2 at 1s; restart coordinator 2 at 2s"
    harm = FaultInjector(plan(text), made(tmp_path))
    with ProcessSupervisor() as supervisor:
        for number in (1, 2):
            start_sleeper(supervisor, coordinator_name(number), tmp_path)
        before = supervisor.pid("coordinator-2")
        harm.carry_out(1.0, supervisor)
        assert supervisor.pid("coordinator-2") is None
        assert supervisor.check() == []
        harm.carry_out(2.0, supervisor)
        assert supervisor.pid("coordinator-2") not in {None, before}
        assert supervisor.pid("coordinator") is not None


def test_harm_runs_the_product_itself_where_nothing_but_kills_is_asked(
    tmp_path: Path,
) -> None:
    homes = made(tmp_path)
    killing = FaultInjector(plan("kill coordinator 1 at 1s"), homes)
    lying = FaultInjector(plan("coordinator 1 lies from 1s"), homes)
    assert FAULTY not in killing.service(1).command
    assert FAULTY in lying.service(2).command


def test_board_without_power_starts_again_at_once(tmp_path: Path) -> None:
    harm = FaultInjector(plan("board 2 loses power at 1s"), made(tmp_path))
    with ProcessSupervisor() as supervisor:
        for number in range(BOARDS):
            start_sleeper(supervisor, board_name(number), tmp_path)
        before = board_pids(supervisor)
        assert harm.carry_out(0.9, supervisor) == []

        assert harm.carry_out(1.0, supervisor) == ["board 2 lost power"]

        after = board_pids(supervisor)
        assert (after[0], after[2]) == (before[0], before[2])
        assert after[1] not in {None, before[1]}


def test_boards_that_leave_come_back_when_the_last_of_their_faults_ends(
    tmp_path: Path,
) -> None:
    text = "boards 1-2 leave from 1s to 3s; board 2 leaves from 2s to 4s"
    harm = FaultInjector(plan(text), made(tmp_path))
    with ProcessSupervisor() as supervisor:
        for number in range(BOARDS):
            start_sleeper(supervisor, board_name(number), tmp_path)
        before = board_pids(supervisor)
        harm.carry_out(1.0, supervisor)
        assert board_pids(supervisor) == [None, None, before[2]]
        assert supervisor.check() == []

        harm.carry_out(3.0, supervisor)
        first, second, _ = board_pids(supervisor)
        assert first not in {None, before[0]}
        assert second is None

        harm.carry_out(9.0, supervisor)
        assert None not in board_pids(supervisor)


def test_board_goes_on_when_the_last_of_its_pauses_ends(tmp_path: Path) -> None:
    text = "boards 1-2 pause from 1s to 3s; board 2 pauses from 2s to 4s"
    harm, supervisor = FaultInjector(plan(text), made(tmp_path)), PausedServices()

    harm.carry_out(2.0, supervisor)
    assert supervisor.paused == {board_name(0), board_name(1)}

    harm.carry_out(3.0, supervisor)
    assert supervisor.paused == {board_name(1)}

    harm.carry_out(4.0, supervisor)
    assert supervisor.paused == set()


@pytest.mark.parametrize(
    "fault", ["link of board 1 drops 5 %", "boards 1-2 mimic from version 0"]
)
def test_faults_of_virtual_fleets_alone_are_refused(fault: str) -> None:
    refuse_virtual_faults(
        plan("board 1 leaves from 1s; board 2 flips signs from version 0")
    )

    with pytest.raises(ConfigError, match="--virtual"):
        refuse_virtual_faults(plan(fault))
