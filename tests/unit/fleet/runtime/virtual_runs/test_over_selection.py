"""More boards train than a version needs, and the slowest are not waited for."""

import pytest

from starling.fleet import FleetPlan, Pace, run_virtual
from starling.protocol.errors import ConfigError


def test_run_virtual_over_selection_never_counts_a_late_update() -> None:
    plan = FleetPlan(devices=12, buffer=4, until_version=8, privacy="none", seed=3)
    pace = Pace(speed_sigma=1.0, virtual_time=True, over_select=0.5)

    run = run_virtual(plan, pace, threads=1)

    refused = dict(run.last.refusals())
    assert [point.staleness_mean for point in run.last.versions[1:]] == [0.0] * 8
    assert [point.updates for point in run.last.versions[1:]] == [4] * 8
    assert refused.get("STALE", 0) > 0
    assert run.outcome.verified


def test_run_virtual_over_selection_waits_less_than_for_all() -> None:
    plan = FleetPlan(devices=12, buffer=4, until_version=8, privacy="none", seed=3)

    spans = [
        run_virtual(plan, pace, threads=1).last.versions[-1].time_s
        for pace in (
            Pace(waves=True, speed_sigma=1.0, virtual_time=True),
            Pace(over_select=0.5, speed_sigma=1.0, virtual_time=True),
        )
    ]

    assert spans[1] < spans[0]


@pytest.mark.parametrize(
    ("pace", "key"),
    [
        ({"over_select": 0.6}, "--over-select"),
        ({"over_select": float("nan")}, "--over-select"),
        ({"speed_sigma": -1.0}, "--speed-sigma"),
    ],
)
def test_pace_that_no_fleet_can_keep_names_the_flag(
    pace: dict[str, float], key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Pace(**pace)  # type: ignore[arg-type]  # a mixed table
    assert caught.value.key == key


def test_run_virtual_over_selection_of_more_boards_than_there_are_is_refused() -> None:
    plan = FleetPlan(devices=4, buffer=4, privacy="none")

    with pytest.raises(ConfigError, match="asks 6 boards, there are 4"):
        run_virtual(plan, Pace(over_select=0.5), threads=1)
