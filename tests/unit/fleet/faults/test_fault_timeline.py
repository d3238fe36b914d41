"""A timeline says who does what wrong and when; a wrong entry says what is wrong."""

import pytest

from starling.fleet.faults.fault_timeline import (
    FaultKind,
    FaultOrders,
    ScheduledFault,
    orders,
    timeline,
    transitions,
)
from starling.protocol.errors import ConfigError

EVERYTHING = (
    "kill coordinator 2 at 20s; restart coordinator 2 at 28s; "
    "partition 1 2 | 3 4 from 30s to 45s; coordinator 4 lies from 50s; "
    "coordinator 3 equivocates from 5s to 6.5s; "
    "coordinator 1 delays 500ms from 7s to 8s; "
    "clock of coordinator 2 jumps +3600s at 9s"
)


def test_timeline_is_sorted_by_time() -> None:
    read = timeline(
        "restart coordinator 2 at 28s;  coordinator 4 lies from 30.5s ;"
        "kill coordinator 2 at 20 s;",
        4,
    )
    assert read == (
        ScheduledFault(20.0, FaultKind.KILL, 2),
        ScheduledFault(28.0, FaultKind.RESTART, 2),
        ScheduledFault(30.5, FaultKind.LIE, 4),
    )


def test_timeline_reads_every_deed() -> None:
    read = timeline(EVERYTHING, 4)
    assert {fault.deed for fault in read} == set(FaultKind)
    by_deed = {fault.deed: fault for fault in read}
    assert by_deed[FaultKind.PARTITION] == ScheduledFault(
        30.0, FaultKind.PARTITION, 0, 45.0, 0.0, ((1, 2), (3, 4))
    )
    assert by_deed[FaultKind.DELAY] == ScheduledFault(7.0, FaultKind.DELAY, 1, 8.0, 0.5)
    assert by_deed[FaultKind.JUMP] == ScheduledFault(
        9.0, FaultKind.JUMP, 2, None, 3600.0
    )


def test_timeline_may_be_empty() -> None:
    assert timeline("", 1) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kill coordinator 5 at 1s", "no coordinator 5, they are 1 to 4"),
        ("kill coordinator 0 at 1s", "no coordinator 0"),
        ("kill coordinator 1", "expected 'kill coordinator N at Ts'"),
        ("kill board 1 at 1s", "expected 'kill coordinator"),
        ("kill coordinator 1 at -1s", "expected 'kill coordinator"),
        ("coordinator 1 lies at 1s", "expected 'coordinator N lies from Ts"),
        ("coordinator 1 lies from 5s to 5s", "ends before it begins"),
        ("kill coordinator 1 at 1s kill coordinator 2 at 2s", "expected 'kill"),
        (";".join(["kill coordinator 1 at 1s"] * 1001), "more than 1000"),
        ("partition 1 2 from 1s", "at least two sides"),
        ("partition 1 2 3 4 | from 1s", "at least two sides"),
        ("partition 1 2 | 3 from 1s", "each of 1 to 4 is on one side"),
        ("partition 1 2 | 2 3 4 from 1s", "each of 1 to 4 is on one side"),
        ("partition 1 2 | 3 9 from 1s", "no coordinator 9"),
        ("partition a | b from 1s", "expected 'partition"),
        ("coordinator 1 delays 0ms from 1s", "1 to 60000 ms"),
        ("coordinator 1 delays 90000ms from 1s", "1 to 60000 ms"),
        ("clock of coordinator 1 jumps 5s at 1s", r"jumps \+Xs at Ts"),
        ("clock of coordinator 1 jumps +99999999999s at 1s", "at most 10000000000 s"),
        ("unplug coordinator 1 at 1s", "expected one of: 'kill"),
    ],
)
def test_timeline_of_something_else_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match="--fault") as refused:
        timeline(text, 4)
    assert refused.match(said)


def test_transitions_tell_beginnings_and_ends_in_order() -> None:
    told = transitions(timeline(EVERYTHING, 4))
    assert [moment.at_s for moment in told] == sorted(m.at_s for m in told)
    ends = [moment for moment in told if not moment.begins]
    assert [moment.at_s for moment in ends] == [6.5, 8.0, 45.0]
    assert all(moment.text for moment in told)


@pytest.mark.parametrize(
    ("time_s", "coordinator", "ordered", "text"),
    [
        (4.9, 3, FaultOrders(), ""),
        (5.0, 3, FaultOrders(equivocates=True), "votes twice"),
        (6.5, 3, FaultOrders(), ""),
        (7.0, 1, FaultOrders(delay_s=0.5), "500 ms late"),
        (99.0, 2, FaultOrders(clock_s=3600.0), "clock +3600 s"),
        (30.0, 1, FaultOrders((3, 4)), "cut off from 3 4"),
        (30.0, 4, FaultOrders((1, 2)), "cut off from 1 2"),
        (50.0, 4, FaultOrders(lies=True), "lies"),
    ],
)
def test_orders_hold_from_beginning_to_end(
    time_s: float, coordinator: int, ordered: FaultOrders, text: str
) -> None:
    given = orders(timeline(EVERYTHING, 4), time_s, coordinator)
    assert given == ordered
    assert given.text == text


def test_orders_of_faults_at_once_add_up() -> None:
    faults = timeline(
        "partition 1 | 2 3 from 1s; partition 1 2 | 3 from 2s; "
        "coordinator 2 delays 100ms from 1s; coordinator 2 delays 400ms from 2s",
        3,
    )
    assert orders(faults, 3.0, 2) == FaultOrders((1, 3), 0.5)
