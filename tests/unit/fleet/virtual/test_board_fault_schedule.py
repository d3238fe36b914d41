"""A timeline of faults on virtual boards and links, and what the fleet makes of it."""

import pytest

from starling.protocol.errors import Reason
from starling.protocol.wire.message_bodies import DevicePhase
from tests.unit.fleet.virtual.idle_fleet import (
    BOARDS,
    drive,
    fleet_of,
    said,
    wait,
)


def test_board_that_loses_power_goes_on_from_its_disk() -> None:
    fleet = fleet_of(1, f"boards 1-{BOARDS} lose power at 3s")
    wait(fleet, 2.0)
    before = dict(fleet._boards)
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
    trained = [fleet._boards[number].trained for number in (0, 2)]
    version = fleet.version

    wait(fleet, 9.0)
    drive(
        fleet,
        lambda: all(
            fleet._boards[number].trained > before
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
    trained = [board.trained for _, board in sorted(fleet._boards.items())]

    drive(fleet, lambda: fleet.version >= version + 3, 60.0)

    after = [board.trained for _, board in sorted(fleet._boards.items())]
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
