"""`starling fleet run --coordinators 4`: kill -9 of one, a liar, one chain at all."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from broker.rim.mosquitto import find_mosquitto
from protocol.errors import EXIT_DONE, ConfigError

pytestmark = pytest.mark.e2e

COORDINATORS = 4
RUN_TIMEOUT_S = 240.0
VERIFY_TIMEOUT_S = 60.0
KILLED = "kill coordinator 2 at 4s; restart coordinator 2 at 10s"
TIMELINE = f"{KILLED}; coordinator 4 lies from 14s"


def starling(*words: str) -> list[str]:
    return [sys.executable, "-m", "starling", *words]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is over."""
    try:
        find_mosquitto()
    except ConfigError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("council")
    words = ["--devices", "6", "--buffer", "3", "--privacy", "none"]
    words += ["--coordinators", str(COORDINATORS), "--fault", TIMELINE]
    words += ["--until-version", "100000", "--time-limit", "26"]
    done = subprocess.run(
        starling("fleet", "run", *words, "--report", str(folder)),
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == EXIT_DONE, done.stderr
    return folder


@pytest.fixture(scope="module")
def report(home: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((home / "report.json").read_text())
    return document


def coordinator_home(home: Path, number: int) -> Path:
    name = "coordinator" if number == 1 else f"coordinator-{number}"
    return home / "home" / name


def test_fleet_with_one_killed_goes_on_and_it_catches_up(
    report: dict[str, Any],
) -> None:
    heights = [each["height"] for each in report["coordinators"]]
    assert len(heights) == COORDINATORS
    assert max(heights) - min(heights) <= 1
    during = [v for v in report["versions"] if 5.0 < v["time_s"] < 10.0]
    assert during, "no version became final while one of four was down"


def test_fleet_every_coordinator_s_chain_is_the_same_and_verified(
    home: Path, report: dict[str, Any]
) -> None:
    for number in range(1, COORDINATORS + 1):
        place = coordinator_home(home, number)
        checked = subprocess.run(
            starling("chain", "verify", "--json", "--home", str(place)),
            capture_output=True,
            text=True,
            timeout=VERIFY_TIMEOUT_S,
            check=False,
        )
        assert checked.returncode == EXIT_DONE, checked.stderr
    assert report["chain"]["verified"] is True
    by_height: dict[int, set[str]] = {}
    for each in report["coordinators"]:
        by_height.setdefault(each["height"], set()).add(each["tip"])
    assert all(len(tips) == 1 for tips in by_height.values())


def test_fleet_liar_is_named(report: dict[str, Any]) -> None:
    honest = report["coordinators"][:3]
    named = {name for each in honest for name in each["named"]}
    assert named == {"coordinator 4"}
