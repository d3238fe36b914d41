"""Fleets whose updates are late learn on: the least of the last versions counts."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e

LAST = 10
LIMIT_S = 300


def least(arguments: str) -> tuple[float, float]:
    """The lowest accuracy of the last ten versions, and the best of all."""
    command = [sys.executable, "-m", "starling", "fleet", "run", "--json"]
    command += ["--time-limit", str(LIMIT_S), *arguments.split()]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=2 * LIMIT_S, check=True
    )
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["stopped_because"] == "version reached"
    found = [v["accuracy"] for v in document["versions"] if v["accuracy"] is not None]
    return min(found[-LAST:]), max(found)


@pytest.mark.parametrize("rule", ["fedbuff", "projected", "fedasync"])
def test_herd_of_ten_virtual_boards_stays_near_its_best(
    rule: str,
) -> None:
    lowest, best = least(
        "--virtual --devices 10 --buffer 2 --leases 10 --privacy none"
        f" --until-version 60 --rule {rule}",
    )

    assert lowest > 0.89
    assert best - lowest < 0.04


def test_herd_of_ten_processes_stays_near_its_best() -> None:
    require_mosquitto()
    lowest, best = least(
        "--devices 10 --buffer 2 --leases 10 --privacy none --until-version 60",
    )

    assert lowest > 0.86
    assert best - lowest < 0.06


def test_fleet_of_the_default_sizes_stays_near_its_best() -> None:
    lowest, best = least(
        "--virtual --devices 10 --buffer 4 --privacy none --until-version 60"
    )

    assert lowest > 0.92
    assert best - lowest < 0.03


def test_private_fleet_with_late_updates_keeps_what_it_paid_for() -> None:
    lowest, best = least(
        "--virtual --devices 20 --buffer 4 --leases 20 --privacy record --epsilon 8"
        " --until-version 60",
    )

    assert lowest > 0.6
    assert best - lowest < 0.08
