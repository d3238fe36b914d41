import argparse
from pathlib import Path

import numpy as np
import pytest

from starling.fleet import run_virtual
from starling.fleet.plan import FleetPlan
from starling.fleet.plan_flags import add_plan_flags, plan_of
from starling.fleet.runtime.dataset_catalog import public_digits
from starling.protocol.errors import ConfigError


def plan(*words: str) -> FleetPlan:
    """The plan of a command line."""
    parser = argparse.ArgumentParser()
    add_plan_flags(parser)
    return plan_of(parser.parse_args(words))


@pytest.mark.parametrize(
    ("words", "patience"),
    [
        ((), 100),
        (("--until-version", "30"), 30),
        (("--guard-patience", "7"), 7),
        (("--guard-patience", "0"), 0),
    ],
)
def test_guard_s_patience_is_to_the_end_unless_one_is_given(
    words: tuple[str, ...], patience: int
) -> None:
    assert plan(*words).guard_patience == patience


def test_timelines_given_one_by_one_are_one_timeline() -> None:
    entries = ("kill coordinator 2 at 20s", "restart coordinator 2 at 28s")
    several = [word for entry in entries for word in ("--fault", entry)]

    assert plan("--coordinators", "4", *several).fault == "; ".join(entries)


@pytest.mark.parametrize("version", ["0", "-1", "1000000000"])
def test_version_out_of_bounds_is_named_by_its_own_flag(version: str) -> None:
    with pytest.raises(ConfigError, match="--until-version"):
        plan("--until-version", version)


def test_virtual_fleet_says_that_weights_of_selection_decide_nothing_there() -> None:
    words = ["--until-version", "2", "--devices", "4", "--buffer", "2"]
    weighed = run_virtual(plan(*words, "--select", "1,0,0,1,0"), threads=1)
    even = run_virtual(plan(*words), threads=1)

    [note] = [each for each in weighed.document["notes"] if "--select" in each]
    assert "sleep until it is their turn" in note
    assert not any("--select" in each for each in even.document["notes"])


def test_fleet_whose_data_nobody_scaled_pauses_with_most_of_its_budget_left(
    tmp_path: Path,
) -> None:
    data = public_digits()
    x = data.x.reshape(len(data.x), -1).astype(np.float32)
    wild = 1000 * np.random.default_rng(0).random((len(x), 1), np.float32)
    np.savez(tmp_path / "wild.npz", x=np.concatenate([x, wild], 1), y=data.y)
    words = ["--data", str(tmp_path / "wild.npz"), "--buffer", "2"]

    made = run_virtual(plan(*words, "--until-version", "60"), threads=1)

    assert made.outcome.stopped_because == "paused"
    assert made.last.version < 20
    assert 0 < made.last.epsilon_max < 4.0
    assert made.last.held_out is not None
    assert made.last.held_out.best == 0
