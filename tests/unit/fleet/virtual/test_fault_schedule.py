"""A timeline of faults on virtual coordinators, and what the others make of it."""

import pytest

from starling.coordinator.chain.state import board_records
from starling.fleet.fault_timeline import timeline
from starling.fleet.virtual.fault_schedule import is_byzantine
from starling.protocol.ids import TaskId
from tests.unit.fleet.virtual.idle_fleet import drive, fleet_of, said, wait


def test_killed_coordinator_is_missed_by_nobody_and_catches_up() -> None:
    fleet = fleet_of(4, "kill coordinator 2 at 3s; restart coordinator 2 at 8s")
    wait(fleet, 7.0)
    dead = fleet.coordinators[1]
    height, version = dead.state.ledger.height, fleet.version
    assert fleet.snapshot(7.0).coordinators[1].down
    assert max(each.state.ledger.height for each in fleet.coordinators) > height

    wait(fleet, 14.0)

    assert not fleet.snapshot(14.0).coordinators[1].down
    assert fleet.version > version
    assert dead.state.tasks[TaskId(0)].head >= version
    assert fleet.verify()
    assert said(fleet) == [
        "coordinator 2 was killed",
        "coordinator 2 is started again",
    ]


def test_only_coordinator_killed_goes_on_where_it_was() -> None:
    fleet = fleet_of(1, "kill coordinator 1 at 3s; restart coordinator 1 at 9s")
    wait(fleet, 8.0)
    version = fleet.version

    drive(fleet, lambda: fleet.version > version, 60.0)

    assert fleet.elapsed_s > 9.0
    assert fleet.verify()


def test_partition_in_halves_stops_the_chain_and_is_named_until_it_heals() -> None:
    fleet = fleet_of(4, "partition 1 2 | 3 4 from 3s to 12s")
    wait(fleet, 5.0)
    heights = {each.state.ledger.height for each in fleet.coordinators}
    wait(fleet, 11.0)
    assert {each.state.ledger.height for each in fleet.coordinators} == heights
    assert fleet.snapshot(11.0).coordinators[0].ordered == "cut off from 3 4"

    wait(fleet, 20.0)

    assert min(each.state.ledger.height for each in fleet.coordinators) > max(heights)
    assert any("no side has a quorum of 3: 1 2 | 3 4" in text for text in said(fleet))
    assert fleet.verify()


def test_liar_is_outvoted_and_named() -> None:
    fleet = fleet_of(4, "coordinator 4 lies from 1s")

    drive(
        fleet,
        lambda: "coordinator 4 attested another model than became final" in said(fleet),
        60.0,
    )

    version = fleet.version
    drive(fleet, lambda: fleet.version > version, 60.0)


def test_coordinator_that_votes_twice_is_convicted_on_every_chain() -> None:
    fleet = fleet_of(4, "coordinator 3 equivocates from 1s to 4s")
    key = fleet.coordinators[2].settings.ledger.key.public

    drive(
        fleet,
        lambda: all(
            board_records.fault(each.state.ledger.tree, key) is not None
            for each in fleet.coordinators
        ),
        60.0,
    )

    assert fleet.verify()


@pytest.mark.parametrize(
    "fault",
    [
        "coordinator 1 delays 400ms from 1s to 6s",
        "clock of coordinator 2 jumps -100000s at 1s",
        "clock of coordinator 2 jumps +1000000000s at 1s",
    ],
)
def test_late_gossip_and_wrong_clocks_stop_nobody(fault: str) -> None:
    fleet = fleet_of(4, fault)
    wait(fleet, 6.0)
    version = fleet.version

    drive(fleet, lambda: fleet.version > version, 60.0)

    assert fleet.verify()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", False),
        ("kill coordinator 1 at 1s; restart coordinator 1 at 2s", False),
        ("kill coordinator 1 at 1s; coordinator 1 lies from 2s", True),
    ],
)
def test_timeline_of_kills_alone_is_not_byzantine(fault: str, expected: bool) -> None:
    assert is_byzantine(timeline(fault, 2)) == expected
