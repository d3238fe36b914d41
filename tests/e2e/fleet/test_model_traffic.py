"""Boards of a fleet of processes pull newer versions as differences."""

import json
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.deadline import DEADLINE_S
from tests.e2e.fleet.fleet_process import running, until
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e

MODEL_BYTES = 4 * 2_410
"""Of the perceptron that the fleet trains."""


def traffic(home: Path, board: str) -> tuple[int, int]:
    """Bytes that a board received, and by how many differences were shorter."""
    try:
        found = json.loads((home / "boards" / board / "status.json").read_text())
    except (OSError, ValueError):
        return 0, 0
    return found["bytes_down"], found["bytes_saved"]


def has_saved(home: Path, board: str) -> bool:
    return traffic(home, board)[1] > MODEL_BYTES


def test_traffic_falls_and_the_fleet_learns(tmp_path: Path) -> None:
    require_mosquitto()
    home, out, boards = tmp_path / "home", tmp_path / "out", ("000", "001")
    sizes = ("--devices", "2", "--buffer", "2", "--model", "mlp")
    ends = ("--until-version", "100000", "--privacy", "none")
    kept = ("--home", str(home), "--report", str(out))

    with running(*sizes, *ends, *kept) as child:
        for board in boards:
            until(partial(has_saved, home, board), f"differences at {board}")
        found = [traffic(home, board) for board in boards]
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=DEADLINE_S)

    down, saved = map(sum, zip(*found, strict=True))
    # A bundle, proofs and leases are in what came, too.
    assert saved > 0.05 * (down + saved)
    document = json.loads((out / "report.json").read_text())
    assert document["chain"]["verified"] is True
    assert max(each["accuracy"] or 0.0 for each in document["versions"]) > 0.7
