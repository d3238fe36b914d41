"""Several coordinators in virtual time keep one chain, whatever happens to them."""

import pytest

from starling.fleet.virtual.virtual_fleet import VirtualFleet
from tests.unit.fleet.virtual.idle_fleet import drive, fleet_of, wait


def tips(fleet: VirtualFleet) -> set[str]:
    """Blocks at the height that all coordinators have reached."""
    least = min(each.state.ledger.height for each in fleet.coordinators)
    found = [each.store.header(least) for each in fleet.coordinators]
    return {stored.header.block_id().hex() for stored in found if stored}


@pytest.mark.parametrize("brokers", [1, 2])
def test_four_coordinators_agree_on_every_version(brokers: int) -> None:
    fleet = fleet_of(4, brokers=brokers)
    drive(fleet, lambda: fleet.version >= 3, 60.0)

    shown = fleet.snapshot(fleet.elapsed_s)
    assert (shown.quorum, len(shown.coordinators)) == (3, 4)
    assert all(set(p.hears) == {1, 2, 3, 4} - {p.number} for p in shown.coordinators)
    assert len(tips(fleet)) == 1
    assert fleet.verify()


def test_seed_gives_the_same_run_of_four_coordinators_again() -> None:
    shown = []
    for _ in range(2):
        fleet = fleet_of(4, "kill coordinator 2 at 2s", seed=7)
        wait(fleet, 9.0)
        shown.append(fleet.snapshot(fleet.elapsed_s))

    assert shown[0] == shown[1]
    assert shown[0].version > 1


def test_chains_that_differ_do_not_verify() -> None:
    fleet, other = fleet_of(2, seed=1), fleet_of(2, seed=2)
    for each in (fleet, other):
        wait(each, 5.0)
    assert fleet.verify()

    fleet.coordinators[1] = other.coordinators[1]

    assert not fleet.verify()
