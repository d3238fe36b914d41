"""A timeline is carried out on real processes, and orders reach who they are for."""

from pathlib import Path

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import identify
from starling.fleet.fault_timeline import FaultOrders, timeline
from starling.fleet.runtime.faults.byzantine_coordinator import FaultOrderFile
from starling.fleet.runtime.faults.fault_injector import FaultInjector
from starling.fleet.runtime.processes.home_setup import (
    FleetHomes,
    clear,
    coordinator_name,
)
from starling.fleet.runtime.processes.supervisor import (
    ProcessSupervisor,
    SupervisedProcess,
)

COUNT = 2


def made(path: Path) -> FleetHomes:
    """Homes of two coordinators."""
    homes = clear(path / "fleet")
    for number in range(1, COUNT + 1):
        home = CoordinatorHome(homes.coordinator_at(number))
        identify(home, f"coordinator {number}")
    return homes


def sleeper(homes: FleetHomes, number: int) -> SupervisedProcess:
    name = coordinator_name(number)
    log = homes.path / "logs" / f"{name}.log"
    return SupervisedProcess(name, ("/bin/sh", "-c", "exec sleep 60"), log)


def standing(homes: FleetHomes, number: int) -> FaultOrders:
    return FaultOrderFile(homes.orders(number)).now()


def test_harm_gives_orders_when_their_time_comes_and_takes_them_back(
    tmp_path: Path,
) -> None:
    homes = made(tmp_path)
    text = "partition 1 | 2 from 2s to 4s; coordinator 2 lies from 3s"
    harm = FaultInjector(timeline(text, COUNT), homes, COUNT)
    with ProcessSupervisor() as supervisor:
        assert harm.carry_out(1.9, supervisor) == []
        assert standing(homes, 1) == FaultOrders()
        (said,) = harm.carry_out(2.0, supervisor)
        assert said == "coordinators 1 | 2 are cut off from each other"
        assert standing(homes, 1) == FaultOrders((2,))
        assert standing(homes, 2) == FaultOrders((1,))
        assert len(harm.carry_out(9.0, supervisor)) == 2
    assert standing(homes, 1) == FaultOrders()
    assert standing(homes, 2) == FaultOrders(lies=True)
    assert (harm.ordered(1), harm.ordered(2)) == ("", "lies")


def test_harm_kills_and_starts_again(tmp_path: Path) -> None:
    homes = made(tmp_path)
    text = "kill coordinator 2 at 1s; restart coordinator 2 at 2s"
    harm = FaultInjector(timeline(text, COUNT), homes, COUNT)
    with ProcessSupervisor() as supervisor:
        for number in (1, 2):
            supervisor.start(sleeper(homes, number))
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
    killing = FaultInjector(timeline("kill coordinator 1 at 1s", COUNT), homes, COUNT)
    lying = FaultInjector(timeline("coordinator 1 lies from 1s", COUNT), homes, COUNT)
    assert (
        "starling.fleet.runtime.faults.byzantine_coordinator"
        not in killing.service(1).command
    )
    assert (
        "starling.fleet.runtime.faults.byzantine_coordinator"
        in lying.service(2).command
    )
