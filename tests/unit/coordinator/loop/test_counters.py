"""What is counted as refused, and what a fleet in health refuses too."""

import pytest

from starling.coordinator.loop.counters import (
    ADMITTED_S,
    STRANGERS_MAX,
    CoordinatorCounters,
)
from starling.coordinator.step.effects import RecordRefusal
from starling.protocol.errors import Reason
from starling.protocol.ids import DeviceId

BOARD = DeviceId(bytes(16))


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> CoordinatorCounters:
    return CoordinatorCounters(0, clock)


def test_request_for_what_is_not_here_is_counted_apart(
    tally: CoordinatorCounters,
) -> None:
    tally.refuse(RecordRefusal(BOARD, Reason.NOT_HERE, ""))

    assert dict(tally.passing) == {"NOT_HERE": 1}
    assert (dict(tally.refused), tally.devices) == ({}, {})


def test_board_whose_admission_may_be_on_its_way_is_counted_apart_for_a_while(
    tally: CoordinatorCounters, clock: Clock
) -> None:
    unknown = RecordRefusal(BOARD, Reason.NOT_ENROLLED, "")
    tally.refuse(unknown)
    clock.now_s += ADMITTED_S - 1
    tally.refuse(unknown)
    clock.now_s += 1
    tally.refuse(unknown)

    assert dict(tally.passing) == {"NOT_ENROLLED": 2}
    assert dict(tally.refused) == {"NOT_ENROLLED": 1}
    assert dict(tally.device(BOARD).refused) == {"NOT_ENROLLED": 1}


def test_crowd_of_strangers_costs_bounded_memory_and_is_counted_as_refused(
    tally: CoordinatorCounters,
) -> None:
    for number in range(STRANGERS_MAX + 3):
        device = DeviceId(number.to_bytes(16))
        tally.refuse(RecordRefusal(device, Reason.NOT_ENROLLED, ""))

    assert tally.passing["NOT_ENROLLED"] == STRANGERS_MAX
    assert tally.refused["NOT_ENROLLED"] == 3


@pytest.mark.parametrize("reason", [Reason.MALFORMED, Reason.STALE, Reason.REPLAYED])
def test_what_no_fleet_in_health_does_is_refused(
    tally: CoordinatorCounters, reason: Reason
) -> None:
    tally.refuse(RecordRefusal(BOARD, reason, ""))
    tally.refuse(RecordRefusal(None, Reason.NOT_HERE, ""))

    assert dict(tally.refused) == {reason.name: 1, "NOT_HERE": 1}
    assert not tally.passing
