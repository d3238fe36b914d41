"""The rows of boards: made anew if anything changed, and only then."""

import json

import pytest

from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.runtime.status.device_rows import DeviceRows
from starling.coordinator.step.effects import RecordAcceptance, RecordRefusal
from starling.coordinator.step.state import CoordinatorState
from starling.protocol.errors import Reason
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard, voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators


class Pricing:
    """An epsilon that counts how often it is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, charge: int) -> float:
        self.asked += 1
        return charge / 2


@pytest.fixture
def boards(council: FourCoordinators) -> list[FleetBoard]:
    made = voters(2)
    council.open(made)
    return made


def state_of(council: FourCoordinators) -> CoordinatorState:
    return council.members[0].state


def test_rows_of_an_unchanged_state_are_not_made_again(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    tally, pricing = CoordinatorCounters(0, lambda: 0.0), Pricing()
    tally.accept(RecordAcceptance(boards[0].device))
    rows = DeviceRows(tally)
    first = rows.text(state_of(council), pricing, 0)
    council.run(5.0)

    assert rows.text(state_of(council), pricing, 0) is first
    assert pricing.asked == 1


def test_rows_follow_counters_sessions_chain_and_unit(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    tally, pricing = CoordinatorCounters(0, lambda: 0.0), Pricing()
    rows = DeviceRows(tally)
    assert json.loads(rows.text(state_of(council), pricing, 0)) == []

    tally.device(boards[0].device).bytes_up += 5
    tally.refuse(RecordRefusal(boards[0].device, Reason.BUSY, ""))
    (row,) = json.loads(rows.text(state_of(council), pricing, 0))
    assert (row["bytes_up"], row["updates_refused"]) == (5, {"BUSY": 1})

    for board in boards:
        council.contribute(board, 0)
    council.run(1.0)
    both = json.loads(rows.text(state_of(council), pricing, 0))
    assert [row["updates_accepted"] for row in both] == [1, 1]

    asked = pricing.asked
    rows.text(state_of(council), pricing, 1)
    assert pricing.asked == asked + 2
