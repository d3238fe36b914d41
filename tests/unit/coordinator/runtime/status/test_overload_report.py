"""What is dropped has a name in the status, and a line in the log once an hour."""

from dataclasses import replace

from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.runtime.status.overload_report import (
    SAY_AGAIN_S,
    OverloadLog,
    counts,
    shown,
)
from starling.coordinator.step.effects import RecordOverLimit
from starling.coordinator.step.events import BoardMessageArrived
from starling.protocol.ids import device_name
from tests.unit.coordinator.fixtures.council_genesis import KEYS
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators


def test_line_is_said_once_an_hour_and_counts_on() -> None:
    overload = OverloadLog()
    assert overload.lines({"a board": 0}, 0.0) == []
    assert overload.lines({"a board": 3, "another": 1}, 1.0) == [
        "a board, 3 so far",
        "another, 1 so far",
    ]
    for second in range(2, 60):
        assert overload.lines({"a board": 3 + second, "another": 1}, second) == []
    later_s = 1.0 + SAY_AGAIN_S
    assert overload.lines({"a board": 90, "another": 1}, later_s) == [
        "a board, 90 so far"
    ]


def test_names_that_are_remembered_are_bounded() -> None:
    overload = OverloadLog()
    for number in range(20_000):
        overload.lines({f"board {number}": 1}, float(number))
    assert len(overload._said_s) == len(overload._seen) <= 4096


def test_flood_of_a_board_is_named(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member, tally = council.members[0], CoordinatorCounters(0, lambda: 0.0)
    member.effects.clear()
    for _ in range(400):
        member.step(BoardMessageArrived(boards[0].device, b"noise"), council.now_s)
    for effect in member.effects:
        if isinstance(effect, RecordOverLimit):
            tally.ignore(effect.device)
    name = device_name(boards[0].device)
    ignored = shown(member.state, tally)["ignored"]
    assert ignored.keys() == {name}
    assert ignored[name] > 200
    assert (
        counts(member.state, tally)[f"{name}: messages beyond a board's allowance"]
        == (ignored[name])
    )


def test_peer_and_lane_are_named(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    state, tally = council.members[0].state, CoordinatorCounters(0, lambda: 0.0)
    liar = KEYS[3].identity
    peer = replace(state.peers[liar], refused=7, wants_dropped=2)
    state = replace(state, peers={**state.peers, liar: peer}, wants_dropped=4)
    tally.dropped["bulk"] += 5
    found = {text: count for text, count in counts(state, tally).items() if count}
    assert found == {
        "bulk: messages for which there was no room": 5,
        "own needs not asked for: too many at once": 4,
        "member 3: beyond what a coordinator may say and ask": 7,
        "member 3: names more than is asked for": 2,
    }
    assert shown(state, tally) == {
        "dropped": {"bulk": 5},
        "ignored": {},
        "wants_dropped": 4,
    }
