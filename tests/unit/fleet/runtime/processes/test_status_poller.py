"""Status files of a fleet become one snapshot, whatever state they are in."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from starling.agent.step.state import ReadinessCondition
from starling.fleet.runtime.processes.home_setup import (
    MARK,
    FleetHomes,
    clear,
    occupied,
)
from starling.fleet.runtime.processes.status_poller import StatusPoller
from starling.protocol.errors import ConfigError
from starling.protocol.wire.message_bodies import DevicePhase

COORDINATOR: dict[str, Any] = {
    "id": "hub",
    "chain": {"height": 9, "tip": "ab", "state_root": "cd"},
    "tasks": [
        {
            "versions": [
                {
                    "version": number,
                    "time_ms": 1000 + 500 * number,
                    "updates": 2 * number,
                    "accuracy": 0.5,
                    "loss": 1.0,
                    "staleness_mean": 0.5,
                    "epsilon_max": 2.0 * number,
                }
                for number in range(2)
            ]
        }
    ],
    "devices": [
        {
            "id": "board-a",
            "phase": "TRAINING",
            "updates_accepted": 3,
            "updates_refused": {"STALE": 1},
            "bytes_up": 100,
            "bytes_down": 200,
            "epsilon": 2.0,
        }
    ],
}


def write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def agent(name: str, **changes: str) -> dict[str, Any]:
    status: dict[str, Any] = {
        "device": name,
        "phase": "ready",
        "version": 1,
        "condition": "took part in this version",
        "privacy": {"epsilon": 2.5},
    }
    return status | changes


@pytest.fixture
def homes(tmp_path: Path) -> FleetHomes:
    homes = clear(tmp_path / "home")
    write(homes.coordinator / "status.json", COORDINATOR)
    write(homes.board(0) / "status.json", agent("board-a"))
    spent = agent("board-b", condition="budget spent", phase="sleeping")
    write(homes.board(1) / "status.json", spent)
    return homes


def test_boards_that_spent_their_budget_or_are_quarantined_are_counted(
    homes: FleetHomes,
) -> None:
    said = ReadinessCondition.QUARANTINED.value
    for number in (2, 3):
        write(homes.board(number) / "status.json", agent(f"b{number}", condition=said))
    watch = StatusPoller(homes, 5, 1, private=True)

    watch.look(3.0, 0)
    assert (watch.spent, watch.quarantined) == (1, 2)


def test_watch_joins_what_boards_and_coordinator_show(homes: FleetHomes) -> None:
    watch = StatusPoller(homes, 2, 1, private=True)
    shown = watch.look(3.0, 1)

    first, second = shown.devices
    assert (first.id, first.phase, first.accepted) == ("board-a", 2, 3)
    assert (first.epsilon, first.bytes_down) == (2.5, 200)
    assert (second.phase, second.accepted) == (DevicePhase.SLEEPING, 0)
    assert [point.time_s for point in shown.versions] == [0.0, 0.5]
    assert [point.staleness_mean for point in shown.versions] == [None, 0.5]
    assert (shown.height, shown.restarts) == (9, 1)
    assert shown.coordinators[0].id == "hub"
    assert (watch.spent, watch.begun) == (1, True)


def test_watch_without_privacy_shows_no_epsilon(homes: FleetHomes) -> None:
    shown = StatusPoller(homes, 2, 1, private=False).look(0.0, 0)
    assert shown.epsilon_max == 0.0
    assert [point.epsilon_max for point in shown.versions] == [None, None]


def test_watch_nothing_written_yet_is_empty(tmp_path: Path) -> None:
    watch = StatusPoller(clear(tmp_path / "home"), 3, 1, private=True)
    shown = watch.look(0.0, 0)
    assert (shown.versions, shown.devices, shown.coordinators) == ((), (), ())
    assert not watch.begun


@pytest.mark.parametrize("torn", ["", "{", "nonsense"])
def test_watch_torn_status_keeps_what_was_known(homes: FleetHomes, torn: str) -> None:
    watch = StatusPoller(homes, 2, 1, private=True)
    before = watch.look(1.0, 0)
    (homes.coordinator / "status.json").write_text(torn)
    (homes.board(0) / "status.json").write_text(torn)
    assert watch.look(1.0, 0) == before


def test_watch_coordinator_with_a_wrong_clock_is_not_down(homes: FleetHomes) -> None:
    write(homes.coordinator / "status.json", COORDINATOR | {"now_ms": 1})
    shown = StatusPoller(homes, 1, 1, private=True).look(0.0, 0)
    assert not shown.coordinators[0].down


def test_watch_coordinator_that_writes_nothing_is_down(homes: FleetHomes) -> None:
    os.utime(homes.coordinator / "status.json", (1.0, 1.0))
    shown = StatusPoller(homes, 1, 1, private=True).look(0.0, 0)
    assert shown.coordinators[0].down


def test_watch_refusals_add_up_over_coordinators_and_never_fall(
    homes: FleetHomes,
) -> None:
    watch = StatusPoller(homes, 1, 2, private=True)
    other = json.loads(json.dumps(COORDINATOR))
    other["devices"][0] |= {"updates_refused": {"STALE": 2, "BUSY": 1}, "bytes_up": 0}
    write(homes.coordinator_at(2) / "status.json", other)
    assert watch.look(0.0, 0).devices[0].refused == {"STALE": 3, "BUSY": 1}

    # It started again, and counts anew.
    other["devices"][0] |= {"updates_refused": {"BUSY": 1}}
    write(homes.coordinator_at(2) / "status.json", other)
    assert watch.look(1.0, 1).devices[0].refused == {"STALE": 3, "BUSY": 1}


def test_watch_version_times_are_those_of_most_coordinators(homes: FleetHomes) -> None:
    for number, late_ms in ((2, 20), (3, 3_600_000)):
        late = json.loads(json.dumps(COORDINATOR))
        for row in late["tasks"][0]["versions"]:
            row["time_ms"] += late_ms
        write(homes.coordinator_at(number) / "status.json", late)
    shown = StatusPoller(homes, 1, 3, private=True).look(0.0, 0)
    assert [point.time_s for point in shown.versions] == [0.0, 0.5]


def test_watch_version_is_shown_as_who_tried_it_knows_it(homes: FleetHomes) -> None:
    # A regression has a loss and no accuracy; whoever holds no data has neither.
    for number, loss in ((1, None), (2, 0.25)):
        status = json.loads(json.dumps(COORDINATOR))
        for row in status["tasks"][0]["versions"]:
            row |= {"accuracy": None, "loss": loss}
        write(homes.coordinator_at(number) / "status.json", status)

    shown = StatusPoller(homes, 1, 2, private=True).look(0.0, 0)

    assert shown.losses == [0.25, 0.25]


def test_watch_version_is_the_newest_that_a_board_uses(homes: FleetHomes) -> None:
    write(homes.board(1) / "models" / "current.json", {"version": 7})
    watch = StatusPoller(homes, 2, 1, private=True)
    assert watch.look_at_version() == 7


def test_clear_removes_an_earlier_fleet(tmp_path: Path) -> None:
    homes = clear(tmp_path / "home")
    (homes.path / "old").write_text("x")
    clear(tmp_path / "home")
    assert sorted(p.name for p in homes.path.iterdir()) == [
        "boards",
        "logs",
        "orders",
        MARK,
    ]


def test_clear_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(ConfigError, match="--home"):
        clear(tmp_path)
    assert (tmp_path / "precious").exists()


def test_folder_in_which_a_fleet_runs_is_left_alone(tmp_path: Path) -> None:
    with occupied(tmp_path / "home") as homes:
        write(homes.coordinator / "status.json", COORDINATOR)

        with pytest.raises(ConfigError, match=f"a fleet runs .* pid {os.getpid()}"):
            occupied(tmp_path / "home").__enter__()

        assert (homes.coordinator / "status.json").exists()
    with occupied(tmp_path / "home") as homes:
        assert not homes.coordinator.exists()


def test_folder_in_which_a_fleet_was_killed_is_taken_over(tmp_path: Path) -> None:
    with occupied(tmp_path / "home") as homes:
        (homes.path / "link").symlink_to(tmp_path)
    (tmp_path / "home" / MARK).write_text("4194304\n")

    with occupied(tmp_path / "home") as homes:
        assert not (homes.path / "link").is_symlink()
    assert (tmp_path / "home").is_dir()
