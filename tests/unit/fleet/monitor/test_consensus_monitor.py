"""Pauses, liars and forks are told once, from what the coordinators' statuses say."""

from dataclasses import replace

import pytest

from starling.fleet.monitor.consensus_monitor import (
    PAUSE_AFTER_S,
    ConsensusMonitor,
    obstacle,
    sides,
)
from starling.fleet.monitor.run_snapshot import CoordinatorPoint, FinalityPause

ALL = frozenset({1, 2, 3, 4})


def council(
    *groups: tuple[int, ...], down: frozenset[int] = frozenset(), height: int = 7
) -> list[CoordinatorPoint]:
    """Four coordinators, of which those in a group hear each other."""
    side = {number: set(group) for group in groups for number in group}
    return [
        CoordinatorPoint(
            f"id{number}",
            height,
            "tip",
            number=number,
            down=number in down,
            hears=tuple(sorted(side.get(number, set()) - {number})),
        )
        for number in sorted(ALL)
    ]


@pytest.mark.parametrize(
    ("points", "found"),
    [
        (council((1, 2, 3, 4)), ((1, 2, 3, 4),)),
        (council((1, 2), (3, 4)), ((1, 2), (3, 4))),
        (council((2, 3, 4)), ((2, 3, 4), (1,))),
        (council((1, 2, 3, 4), down=frozenset({2})), ((1, 3, 4),)),
        (council(down=ALL), ()),
    ],
    ids=["whole", "halves", "one alone", "one down", "all down"],
)
def test_sides_are_who_hears_each_other(
    points: list[CoordinatorPoint], found: tuple[tuple[int, ...], ...]
) -> None:
    assert sides(points) == found


def test_sides_count_only_who_is_heard_in_return() -> None:
    points = council((1, 2, 3), (4,))
    points[3] = replace(points[3], hears=(1, 2, 3))
    assert sides(points) == ((1, 2, 3), (4,))


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (council((1, 2), (3, 4)), "no side has a quorum of 3: 1 2 | 3 4"),
        (council(down=ALL), "all coordinators are down"),
        (council((1, 2, 3), (4,)), "1 2 3 | 4 hear each other, and have not decided"),
        (
            [replace(point, silence="listens") for point in council((1, 2, 3, 4))[:1]]
            + council((1, 2, 3, 4))[1:],
            "not all vote: 1 listens",
        ),
    ],
    ids=["parted", "down", "undecided", "silent"],
)
def test_obstacle_says_why(points: list[CoordinatorPoint], said: str) -> None:
    assert obstacle(points, 3) == said


def test_council_tells_a_pause_its_reason_and_its_end() -> None:
    seen = ConsensusMonitor()
    assert seen.look(10.0, council((1, 2, 3, 4)), 3) == []
    parted = council((1, 2), (3, 4))
    assert seen.look(10.0 + PAUSE_AFTER_S - 0.1, parted, 3) == []
    (said,) = seen.look(10.0 + PAUSE_AFTER_S, parted, 3)
    assert said == "finality pauses since 0:10: no side has a quorum of 3: 1 2 | 3 4"
    assert seen.look(20.0, parted, 3) == []
    (said,) = seen.look(25.0, council((1, 2, 3, 4), height=8), 3)
    assert said == "finality goes on after 15 s"
    assert seen.pauses == (
        FinalityPause(10.0, 25.0, "no side has a quorum of 3: 1 2 | 3 4"),
    )


def test_council_without_a_pause_says_nothing() -> None:
    seen = ConsensusMonitor()
    for second in range(60):
        points = council((1, 2, 3, 4), height=second)
        assert seen.look(float(second), points, 3) == []
    assert seen.pauses == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"named": ("coordinator 4",)},
            "coordinator 4 attested another model than became final",
        ),
        (
            {"convicted": (("coordinator 4", "duplicate_vote"),)},
            "coordinator 4 is convicted: duplicate_vote",
        ),
        (
            {"split": "version 9 cannot become final"},
            "more liars than are allowed for: version 9 cannot become final",
        ),
        ({"tip": "other"}, "FORK: coordinators hold different blocks of one height"),
    ],
    ids=["outvoted", "convicted", "split", "fork"],
)
def test_council_tells_a_finding_once(change: dict[str, object], said: str) -> None:
    points = council((1, 2, 3, 4))
    # The tests name real fields.
    points[0] = replace(points[0], **change)  # type: ignore[arg-type]  # a table
    seen = ConsensusMonitor()
    assert seen.look(1.0, points, 3) == [said]
    assert seen.look(2.0, points, 3) == []
