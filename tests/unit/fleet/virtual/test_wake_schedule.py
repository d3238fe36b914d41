"""Turns are fair, and virtual time goes forward."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.fleet.virtual.event_queue import EventQueue
from starling.fleet.virtual.wake_schedule import WakeSchedule


@given(st.integers(1, 40), st.integers(1, 10), st.integers(0, 1000))
def test_roster_many_turns_differ_by_at_most_one(
    boards: int, places: int, seed: int
) -> None:
    roster = WakeSchedule(boards, places, np.random.default_rng(seed), waves=False)
    turns = dict.fromkeys(range(boards), 0)
    in_turn: list[int] = []
    for _ in range(3 * boards):
        woken = roster.next_boards(version_began=False)
        in_turn += woken
        for board in woken:
            turns[board] += 1
        assert len(roster.awake) == min(places, boards)
        roster.rest(in_turn.pop(0), took_part=True, spent=False)
    assert max(turns.values()) - min(turns.values()) <= 1


def test_roster_wave_that_leaves_boards_behind_gets_all_its_places() -> None:
    roster = WakeSchedule(
        10, 4, np.random.default_rng(0), waves=True, leave_behind=True
    )
    first = roster.next_boards(version_began=True)
    for board in first[:3]:
        roster.rest(board, took_part=True, spent=False)

    second = roster.next_boards(version_began=True)

    assert len(second) == 4
    assert first[3] not in second
    assert roster.awake == {first[3], *second}


def test_roster_waves_wake_only_when_a_version_begins() -> None:
    roster = WakeSchedule(10, 4, np.random.default_rng(0), waves=True)
    assert roster.next_boards(version_began=False) == []
    first = roster.next_boards(version_began=True)
    assert len(first) == 4
    roster.rest(first[0], took_part=True, spent=False)
    assert roster.next_boards(version_began=False) == []
    assert len(roster.next_boards(version_began=True)) == 1


def test_roster_spent_boards_never_wake_again() -> None:
    roster = WakeSchedule(3, 3, np.random.default_rng(0), waves=False)
    for board in roster.next_boards(version_began=False):
        roster.rest(board, took_part=True, spent=True)
    assert roster.next_boards(version_began=True) == []
    assert roster.retired == {0, 1, 2}


def test_roster_board_that_comes_back_twice_has_one_place() -> None:
    roster = WakeSchedule(2, 2, np.random.default_rng(0), waves=False)
    roster.leave(0)
    # Two faults of one timeline, of which it is the end.
    roster.come_back(0)
    roster.come_back(0)

    assert sorted(roster.next_boards(version_began=False)) == [0, 1]
    roster.come_back(0)
    assert roster.next_boards(version_began=True) == []


def test_roster_idle_board_comes_first_at_the_next_version() -> None:
    roster = WakeSchedule(2, 1, np.random.default_rng(0), waves=False)
    (idle,) = roster.next_boards(version_began=False)
    roster.rest(idle, took_part=False, spent=False)
    (other,) = roster.next_boards(version_began=False)
    assert other != idle
    roster.rest(other, took_part=True, spent=False)
    assert roster.next_boards(version_began=True) == [idle]


@given(st.lists(st.floats(0, 100), max_size=30))
def test_agenda_entries_happen_in_order_of_time(times: list[float]) -> None:
    agenda, seen = EventQueue(), list[float]()
    for time_s in times:
        agenda.at(time_s, partial(seen.append, time_s))
    while agenda.advance():
        assert agenda.now_s == seen[-1]
    assert seen == sorted(times)


def test_agenda_ties_keep_the_order_of_entry() -> None:
    agenda, seen = EventQueue(), list[str]()
    agenda.at(1.0, lambda: seen.append("first"))
    agenda.at(1.0, lambda: seen.append("second"))
    agenda.soon(lambda: seen.append("now"))
    while agenda.advance():
        pass
    assert seen == ["now", "first", "second"]


def test_agenda_past_moment_does_not_turn_time_back() -> None:
    agenda = EventQueue()
    agenda.at(5.0, lambda: agenda.at(1.0, lambda: None))
    agenda.advance()
    agenda.advance()
    assert agenda.now_s == pytest.approx(5.0)
