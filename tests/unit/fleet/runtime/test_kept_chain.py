"""What a virtual fleet leaves can be verified and read like a coordinator's home."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from starling.coordinator.chain.verification.audit import audit
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.fleet import FleetPlan, run_virtual
from starling.fleet.monitor.run_snapshot import RunHeading, RunSnapshot
from starling.protocol.errors import ConfigError

PLAN = FleetPlan(devices=3, buffer=2, until_version=3, seed=5)


def test_virtual_run_leaves_a_chain_that_verifies(tmp_path: Path) -> None:
    run = run_virtual(PLAN, threads=1, home=tmp_path / "home")

    store = SqliteStore.read(tmp_path / "home" / "coordinator" / "state" / CHAIN_FILE)
    found = audit(store, lambda _height: None)
    assert found.fault is None
    assert found.tip.height == run.last.height
    rows = store.versions(0)
    assert [row.accuracy for row in rows] == [
        point.accuracy for point in run.last.versions
    ]
    assert run.outcome.verified
    store.close()


def test_later_run_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    run_virtual(replace(PLAN, until_version=1), threads=1, home=tmp_path / "home")
    run_virtual(replace(PLAN, until_version=2), threads=1, home=tmp_path / "home")

    store = SqliteStore.read(tmp_path / "home" / "coordinator" / "state" / CHAIN_FILE)
    assert [row.version for row in store.versions(0)] == [0, 1, 2]
    store.close()


def test_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(ConfigError, match="holds no fleet"):
        run_virtual(PLAN, threads=1, home=tmp_path)

    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_home_of_a_fleet_that_runs_has_status_and_chain(tmp_path: Path) -> None:
    home = CoordinatorHome(tmp_path / "home" / "coordinator")
    seen: list[tuple[str, int, int, int]] = []

    def look(_heading: RunHeading, _snapshot: RunSnapshot) -> None:
        status = json.loads(home.status.read_text())
        store = SqliteStore.read(home.state / CHAIN_FILE)
        heights = (status["chain"]["height"], store.height())
        seen.append((status["state"], *heights, len(store.versions(0))))
        store.close()

    made = run_virtual(
        PLAN, threads=1, home=tmp_path / "home", live=True, on_snapshot=look
    )

    assert made.outcome.verified
    assert seen
    assert all(state == "running" for state, *_ in seen)
    assert all(said == kept > 0 for _, said, kept, _ in seen)
    status = json.loads(home.status.read_text())
    assert status["state"] == "stopped"
    store = SqliteStore.read(home.state / CHAIN_FILE)
    kept = [row.accuracy for row in store.versions(0)]
    models = [store.model(0, row.version) for row in store.versions(0)]
    store.close()
    assert None not in models
    assert [row["accuracy"] for row in status["tasks"][0]["versions"]] == [
        point.accuracy for point in made.last.versions
    ]
    assert kept == [point.accuracy for point in made.last.versions]
