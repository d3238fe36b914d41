"""A virtual fleet learns from a table of one's own, and pays for its windows."""

import json
from pathlib import Path

import numpy as np

from starling.fleet import FleetPlan, Pace, run_virtual
from starling.records.data_options import DataOptions


def test_run_virtual_own_table_learns_and_is_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(400, 3)) * (1, 100, 0.01)
    y = 5000 + 300 * x[:, 0] - 2 * x[:, 1] + rng.normal(size=400)
    rows = [
        f"{a},{b},{c},s{at % 4},{d}"
        for at, ((a, b, c), d) in enumerate(zip(x, y, strict=True))
    ]
    (tmp_path / "own.csv").write_text("a,b,c,site,price\n" + "\n".join(rows))
    plan = FleetPlan(
        devices=0,
        data=str(tmp_path / "own.csv"),
        data_options=DataOptions(targets=("price",), board_column="site"),
        privacy="none",
        buffer=2,
        until_version=60,
        patience=4,
        baseline=True,
    )

    run = run_virtual(plan, Pace(waves=True), threads=1)

    document = run.document
    assert document["stopped_because"] == "converged"
    assert document["config"]["devices"] == 4
    assert document["metrics"]["held_out"]["r2"] > 0.99
    assert document["baseline"]["distance"] < 0.01
    assert document["accuracy"] is None
    assert document["loss"] < run.last.losses[0] / 10
    assert "simulation only" in document["notes"][0]
    json.dumps(document, allow_nan=False)


def test_run_virtual_overlapping_windows_pay_for_every_use(tmp_path: Path) -> None:
    rows = [
        f"{at % 5},{(at * 7) % 11},{'ab'[at // 150]},{'xy'[at // 9 % 2]}"
        for at in range(300)
    ]
    (tmp_path / "own.csv").write_text("a,b,board,kind\n" + "\n".join(rows))

    def charge(stride: int) -> float:
        asked = DataOptions(board_column="board", window=4, stride=stride)
        plan = FleetPlan(
            devices=0,
            buffer=1,
            data=str(tmp_path / "own.csv"),
            data_options=asked,
            until_version=2,
            releases=40,
        )
        run = run_virtual(plan, threads=1)
        assert run.heading.privacy is not None
        spent = max(device.epsilon for device in run.last.devices)
        return spent * run.heading.privacy.noise_multiplier

    assert charge(2) > 1.5 * charge(4)
