"""Progress of a fleet in containers, and what keeps it from learning."""

from typing import Any

from starling.fleet.containers.container_list import read_rows
from starling.fleet.containers.fleet_progress import (
    FleetProgress,
    is_spent,
    learns,
    progress_of,
    troubles,
)
from tests.unit.fleet.containers.listed_rows import listed


def status(height: int, boards: int, accuracies: list[float | None]) -> dict[str, Any]:
    """As much of a coordinator's document as counts here."""
    rows = [{"accuracy": each} for each in accuracies]
    tasks = [{"head": len(rows) - 1, "versions": rows}] if rows else []
    return {
        "chain": {"height": height, "boards": boards},
        "updates": {"accepted": 2 * len(rows)},
        "tasks": tasks,
    }


def test_progress_is_that_of_the_coordinator_that_is_furthest() -> None:
    found = progress_of([status(3, 1, [0.1]), status(9, 5, [0.1, 0.5, None])])

    assert found == FleetProgress(5, 2, 0.5, 6, 9)
    assert found.text == "5 devices enrolled, version 2, accuracy 50.0%, 6 updates"
    assert found.document()["version"] == 2


def test_progress_of_a_task_that_pauses_says_why() -> None:
    paused = status(9, 5, [0.1, 0.5])
    paused["tasks"][0]["held_out"] = {"paused": True, "text": "paused: no better"}
    goes_on = status(9, 5, [0.1, 0.5])
    goes_on["tasks"][0]["held_out"] = {"paused": False, "text": "got worse"}

    assert progress_of([paused]).text.endswith("updates; paused: no better")
    assert progress_of([goes_on]).pause == ""


def test_progress_before_a_task_or_a_status_says_so() -> None:
    assert progress_of([]) == FleetProgress()
    found = progress_of([status(1, 3, [])])
    assert (found.version, found.boards) == (None, 3)
    assert found.text == "3 devices enrolled, no task open yet"


def test_fleet_learns_with_all_devices_and_two_versions_more() -> None:
    before = FleetProgress(2, 7)

    assert learns(before, FleetProgress(5, 9), 5)
    assert not learns(before, FleetProgress(5, 8), 5)
    assert not learns(before, FleetProgress(4, 9), 5)
    assert learns(FleetProgress(), FleetProgress(1, 2), 1)
    assert not learns(FleetProgress(), FleetProgress(1), 1)


def test_budgets_are_spent_if_every_devices_is() -> None:
    assert is_spent(["budget spent", "budget spent"])
    assert not is_spent(["budget spent", "training"])
    assert not is_spent([])


def test_troubles_are_containers_that_do_not_run_and_boards_that_need_somebody() -> (
    None
):
    rows = read_rows(
        "\n".join(
            [
                listed("setup", state="exited", status="Exited (0) 1 minute ago"),
                listed("broker", status="Up 1 minute (unhealthy)"),
                listed("device", 1),
                listed("device", 2, "paused", "Up 1 minute (Paused)"),
            ]
        )
    )
    well = {"condition": "training", "next_action": ""}
    ill = {"condition": "revoked", "next_action": "enrol again"}

    assert troubles(rows, {"a": well, "b": ill, "c": {}}) == (
        "starling-broker-1: unhealthy",
        "starling-device-2: Up 1 minute (Paused)",
        "b: revoked; enrol again",
    )
