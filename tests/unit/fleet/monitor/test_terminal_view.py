"""The view shows what is known, at any size, and a log line says it in one."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from starling.fleet.monitor.run_snapshot import (
    CoordinatorPoint,
    DevicePoint,
    FinalityPause,
    HeldOutLoss,
    RunEvent,
    RunHeading,
    RunSnapshot,
    bytes_text,
    clock_text,
    sparkline,
)
from starling.fleet.monitor.terminal_view import line, render
from starling.protocol.wire.message_bodies import DevicePhase


def shown(heading: RunHeading, snapshot: RunSnapshot, width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(render(heading, snapshot))
    return capture.get()


@pytest.mark.parametrize(
    "said",
    [
        "90.0%",
        "from 10.0%",
        "4 of 10",
        "8 accepted",
        "aaaaaaaa",
        "1 training",
        "1 lost",
        "height",
        "abababab",
        "12 ms",
        "5.50 of 8 at most",
        "1e-05",
        "one record",
        "add or remove",
        "2.30 x clip 1",
        "stale",
        "restarted",
    ],
)
def test_render_half_way_shows(
    heading: RunHeading, snapshot: RunSnapshot, said: str
) -> None:
    assert said in shown(heading, snapshot)


def test_loss_that_got_worse_is_in_view_and_line(
    heading: RunHeading, snapshot: RunSnapshot
) -> None:
    worse = HeldOutLoss(
        2, 0.25, 4, 1.5, 5.0, is_worse=True, text="got worse: version 4"
    )
    now = replace(snapshot, held_out=worse)
    assert "got worse: version 4" in shown(heading, now)
    assert "WORSE: loss 1.5, best 0.25" in line(heading, now)
    assert "WORSE" not in line(heading, snapshot)
    paused = replace(worse, paused=True)
    assert "PAUSED: loss 1.5" in line(heading, replace(snapshot, held_out=paused))


def test_render_before_anything_shows_no_zero_accuracy(heading: RunHeading) -> None:
    text = shown(heading, RunSnapshot(0.0))
    assert "waiting for the first evaluation" in text
    assert "0.0%" not in text


def test_render_without_privacy_says_so(
    heading: RunHeading, snapshot: RunSnapshot
) -> None:
    text = shown(replace(heading, privacy=None), snapshot)
    assert "updates are not noised" in text


@pytest.mark.parametrize("highest", [0, 1])
def test_render_tip_is_of_the_chain_whose_height_is_shown(
    heading: RunHeading, snapshot: RunSnapshot, highest: int
) -> None:
    heights, tips = [7, 7], ["11" * 32, "ee" * 32]
    heights[highest] = 40
    points = tuple(
        CoordinatorPoint(f"c{at}", heights[at], tips[at], "", number=1 + at)
        for at in range(2)
    )

    text = shown(heading, replace(snapshot, coordinators=points))

    assert tips[highest][:12] in text
    assert tips[1 - highest][:12] not in text


def test_render_large_fleet_counts_boards_by_phase(heading: RunHeading) -> None:
    devices = tuple(
        DevicePoint(f"{i:010d}", DevicePhase.READY if i else DevicePhase.LOST)
        for i in range(500)
    )
    text = shown(heading, RunSnapshot(1.0, devices=devices))
    assert "499 ready" in text
    assert "0000000001" not in text


def test_render_narrow_terminal_stays_inside(
    heading: RunHeading, snapshot: RunSnapshot
) -> None:
    text = shown(heading, snapshot, width=80)
    assert max(len(row) for row in text.splitlines()) <= 80


def test_render_narrow_terminal_cuts_no_word_of_the_boards(
    heading: RunHeading, snapshot: RunSnapshot
) -> None:
    rows = shown(heading, snapshot, width=80).splitlines()
    head = next(place for place, row in enumerate(rows) if "board " in row)
    assert "state" in rows[head]
    assert "epsilon" in rows[head]
    assert "training" in rows[head + 1]
    assert not any("…" in row.split("│")[1] for row in rows[head : head + 4])


def test_render_narrow_terminal_cuts_long_states_alone(heading: RunHeading) -> None:
    away = DevicePoint("0123456789", DevicePhase.DISCONNECTED)
    text = shown(heading, RunSnapshot(1.0, devices=(away,)), width=80)
    assert "012345 disconn… " in text
    assert "updates refused epsilon" in text


def test_line_half_way_is_one_tidy_line(
    heading: RunHeading, snapshot: RunSnapshot
) -> None:
    assert line(heading, snapshot) == (
        " 0:09  version   4/10  accuracy  90.0%  updates    8 (1.0/s)  "
        "staleness 2.00  epsilon  5.50 of 8  height   12  up 5.0 kB  "
        "refused 3  restarted 1"
    )


def test_line_at_the_start_shows_dashes(heading: RunHeading) -> None:
    assert "accuracy      -  updates    0 (0.0/s)  staleness    -" in line(
        heading, RunSnapshot(0.0)
    )


@pytest.mark.parametrize(
    ("values", "width", "bars"),
    [
        ([], 5, ""),
        ([3.0], 5, "▁"),
        ([0.0, 1.0], 5, "▁█"),
        ([1.0, 1.0, 1.0], 5, "▁▁▁"),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 4, "▁▃▆█"),
    ],
)
def test_sparkline_values_become_bars(
    values: list[float], width: int, bars: str
) -> None:
    assert sparkline(values, width) == bars


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (4.56e6, "4.6 MB"), (2e9, "2.0 GB")],
)
def test_bytes_text_scales(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.0, "0:00"), (59.9, "0:59"), (3600, "60:00")]
)
def test_clock_text_is_minutes_and_seconds(seconds: float | None, text: str) -> None:
    assert clock_text(seconds) == text


def test_snapshot_remaining_follows_the_pace(snapshot: RunSnapshot) -> None:
    assert snapshot.remaining_s(10) == pytest.approx(6 * 2.0 - 1.0)
    assert RunSnapshot(5.0).remaining_s(10) is None


def test_snapshot_refusals_sorts_by_count(snapshot: RunSnapshot) -> None:
    assert snapshot.refusals() == [("STALE", 2), ("BUSY", 1)]


COUNCIL = (
    CoordinatorPoint("aaaa", 90, "t", number=1, hears=(3, 4), signed=True),
    CoordinatorPoint("bbbb", 40, "s", number=2, down=True),
    CoordinatorPoint(
        "cccc",
        90,
        "t",
        number=3,
        round=2,
        hears=(1,),
        signed=True,
        ordered="cut off from 4",
        named=("coordinator 4",),
    ),
    CoordinatorPoint(
        "dddd",
        89,
        "u",
        number=4,
        hears=(1, 3),
        silence="listens",
        convicted=(("coordinator 4", "duplicate_vote"),),
    ),
)


@pytest.mark.parametrize(
    "said",
    [
        "coordinators · 3 of 4 decide",
        "down  50 blocks behind",
        "2 of 3",
        "(cut off from 4)",
        "listens  was outvoted on a model",
        "finality pauses since 0:03, 6 s: no side",
        "0:02  coordinator 2 was killed",
    ],
)
def test_render_council_shows_who_is_behind_and_why(
    heading: RunHeading, snapshot: RunSnapshot, said: str
) -> None:
    many = replace(
        snapshot,
        coordinators=COUNCIL,
        quorum=3,
        pauses=(FinalityPause(3.0, None, "no side has a quorum"),),
        events=(RunEvent(2.0, "coordinator 2 was killed"),),
    )
    assert said in shown(heading, many)
    assert "down 2  NOT FINAL since 0:03" in line(heading, many)


def test_render_council_own_conviction_is_shown_by_others(
    heading: RunHeading, snapshot: RunSnapshot
) -> None:
    proven = (("coordinator 2", "duplicate_vote"),)
    points = [replace(COUNCIL[0], convicted=proven), *COUNCIL[1:]]
    text = shown(heading, replace(snapshot, coordinators=tuple(points)))
    assert "convicted: duplicate_vote" in text


def test_crash_only_is_said_in_the_view_and_in_each_line(
    heading: RunHeading, snapshot: RunSnapshot
) -> None:
    only = replace(heading, crash_only=True)
    two = replace(snapshot, coordinators=COUNCIL[:2], quorum=2)
    assert "2 of 2 decide · CRASH-ONLY: safe while nobody lies" in shown(only, two)
    assert "CRASH-ONLY" in line(only, two)
    assert "CRASH-ONLY" not in shown(heading, two) + line(heading, two)
