"""A timeline of faults on a virtual fleet, and what the others make of it."""

import pytest

from starling.coordinator.chain.state import board_records
from starling.fleet.faults.fault_timeline import timeline
from starling.fleet.virtual.fault_injector import is_byzantine
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId
from starling.protocol.wire.message_bodies import DevicePhase
from tests.unit.fleet.virtual.idle_fleet import BOARDS, drive, fleet_of, said, wait


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


def test_board_that_loses_power_goes_on_from_its_disk() -> None:
    fleet = fleet_of(1, f"boards 1-{BOARDS} lose power at 3s")
    wait(fleet, 2.0)
    before = dict(fleet.boards.made)
    journals = {number: list(each.disk.journal) for number, each in before.items()}
    boots = {number: each.disk.boot for number, each in before.items()}
    version = fleet.version

    wait(fleet, 3.0)
    drive(fleet, lambda: fleet.version >= version + 6, 60.0)

    assert said(fleet) == [f"boards 1-{BOARDS} lost power"]
    for number, board in before.items():
        assert board.disk.boot == boots[number] + 1
        assert board.state.ledger.length == len(board.disk.journal)
        kept = journals[number]
        assert board.disk.journal[: len(kept)] == kept
    # What was on the way is sent once more, and nobody signs a base version twice.
    refusals = {name for each in fleet.snapshot(0.0).devices for name in each.refused}
    assert refusals <= {Reason.ALREADY_KNOWN.name}
    assert fleet.verify()


def test_boards_that_leave_are_away_until_they_come_back() -> None:
    fleet = fleet_of(1, "boards 50 % leave from 3s to 9s")
    wait(fleet, 8.0)
    assert [
        point.number
        for point in fleet.snapshot(8.0).devices
        if point.phase is DevicePhase.LOST
    ] == [1, 3]
    trained = [fleet.boards.made[number].trained for number in (0, 2)]
    version = fleet.version

    wait(fleet, 9.0)
    drive(
        fleet,
        lambda: all(
            fleet.boards.made[number].trained > before
            for number, before in zip((0, 2), trained, strict=True)
        ),
        60.0,
    )

    assert fleet.version > version
    assert said(fleet) == ["50 % of the boards leave", "50 % of the boards are back"]
    assert fleet.verify()


def test_fleet_learns_while_boards_are_away() -> None:
    fleet = fleet_of(1, "boards 1-2 leave from 2s")
    wait(fleet, 3.0)
    version = fleet.version
    trained = [board.trained for _, board in sorted(fleet.boards.made.items())]

    drive(fleet, lambda: fleet.version >= version + 3, 60.0)

    after = [board.trained for _, board in sorted(fleet.boards.made.items())]
    assert after[:2] == trained[:2]
    assert after[2] > trained[2]
    assert after[3] > trained[3]


def test_lossy_links_are_repaired_by_asking_again() -> None:
    fleet = fleet_of(1, f"links of boards 1-{BOARDS} drop 30 %")

    drive(fleet, lambda: fleet.version >= 3, 600.0)

    lossless = fleet_of(1, "board 1 loses power at 500s")
    drive(lossless, lambda: lossless.version >= 3, 600.0)
    assert fleet.elapsed_s > lossless.elapsed_s
    assert fleet.verify()


def test_link_that_drops_everything_lets_nothing_through_until_it_ends() -> None:
    fleet = fleet_of(1, f"links of boards 1-{BOARDS} drop 100 % from 3s to 20s")
    wait(fleet, 4.0)
    version = fleet.version
    wait(fleet, 19.0)
    assert fleet.version <= version + 1

    drive(fleet, lambda: fleet.version >= version + 3, 120.0)

    assert fleet.elapsed_s > 20.0
    assert fleet.verify()


@pytest.mark.parametrize(
    "fault",
    [
        "board 1 loses power at 2s; links of boards 1-4 drop 20 % from 1s to 6s; "
        "boards 25 % leave from 3s to 5s; kill coordinator 1 at 4s; "
        "restart coordinator 1 at 6s",
    ],
)
def test_same_seed_gives_the_same_blocks_with_faults_of_everything(fault: str) -> None:
    tips = []
    for _ in range(2):
        fleet = fleet_of(1, fault)
        wait(fleet, 8.0)
        header = fleet.coordinators[0].state.ledger.header
        assert header is not None
        tips.append(header.block_id())

    assert tips[0] == tips[1]
