"""MNIST with a hundred virtual boards, ten at a time, ten updates a version.

`python -m benchmarks.mnist` needs the four MNIST files (STARLING_DATA). It trains the
CNN of 21,840 parameters three times: by local epochs of batch 20 without privacy, and
by one clipped and noised gradient a turn at record-level epsilon 8, with exactly ten
releases of every board, from random weights and from weights that were trained on
digits drawn by pen (`starling fronts build pen --model cnn`). Accuracy is on the test
files, which nobody sees before the end; the last one's server step was chosen on
held-out examples.

    python -m benchmarks.mnist --seeds 1 2 3 --only started
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console
from rich.table import Table

from benchmarks.harness.result_file import keep
from starling.fleet import FleetPlan, Pace, run_virtual
from starling.fleet.fronts.front_catalog import FRONTS, PEN
from starling.fleet.runtime.fronts.front_builder import TRAINED, build_start

VERSIONS = 100
FLOWER_S = 9.6
"""Flower 1.41 on Ray with PyTorch, a round of ten clients, two cores; published."""
SPEED_UP = 15


@dataclass(frozen=True)
class MnistRun:
    """One row.

    Attributes:
      name: Of the row.
      privacy: As of a plan.
      goal: Accuracy on the test files.
      started: Whether the CNN begins at weights of drawn digits.
    """

    name: str
    privacy: str
    goal: float
    started: bool = False


RUNS = (
    MnistRun("none", "none", 0.985),
    MnistRun("record", "record", 0.95),
    MnistRun("started", "record", 0.965, started=True),
)
_STARTED_STEP = 10.0


def measure(of: MnistRun, seed: int, start: Path) -> dict[str, Any]:
    """Runs one fleet."""
    plan = FleetPlan(
        devices=100,
        buffer=10,
        data="mnist",
        privacy=of.privacy,
        releases=10,
        until_version=VERSIONS,
        time_limit_s=24 * 3600.0,
        seed=seed,
    )
    if of.started:
        plan = replace(plan, model=str(start), learning_rate=_STARTED_STEP)
    run = run_virtual(plan, Pace(waves=True))
    training_s = run.last.versions[-1].time_s
    releases = [device.accepted for device in run.last.devices]
    return {
        "name": of.name,
        "seed": seed,
        "privacy": of.privacy,
        "epsilon": run.last.epsilon_max if run.heading.privacy else None,
        "delta": plan.delta,
        "unit": run.heading.privacy.unit if run.heading.privacy else None,
        "releases": [min(releases), max(releases)],
        "versions": run.last.version,
        "held_out_accuracy": run.last.accuracy,
        "test_accuracy": run.outcome.test_accuracy,
        "goal": of.goal,
        "wall_s": training_s,
        "version_s": training_s / run.last.version,
        "verified": run.outcome.verified,
    }


def _started_cnn(path: Path) -> None:
    """Writes the CNN with weights of digits drawn by pen; a minute or two."""
    made = build_start(FRONTS[PEN], "cnn", _say, network=TRAINED[PEN])
    onnx.save(made, path)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> int:
    """Prints the table and writes the results."""
    options = _parser().parse_args()
    chosen = [run for run in RUNS if run.name in options.only]
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "cnn.onnx"
        if any(run.started for run in chosen):
            _started_cnn(start)
        for seed in options.seeds:
            found += [measure(run, seed, start) for run in chosen]
            keep("mnist", {"starling": found, "flower_round_s": FLOWER_S})
    _print(found)
    return 0


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--seeds", type=int, nargs="+", default=[1])
    names = [run.name for run in RUNS]
    made.add_argument("--only", nargs="+", choices=names, default=names)
    return made


def _print(found: list[dict[str, Any]]) -> None:
    table = Table(title="MNIST, 100 boards, 10 a version, CNN of 21,840 parameters")
    for name in ("run", "seed", "epsilon", "test", "goal", "a version", "goal"):
        table.add_column(name, justify="right")
    goal_s = FLOWER_S / SPEED_UP
    for row in found:
        epsilon = "-" if row["epsilon"] is None else f"{row['epsilon']:.2f}"
        table.add_row(
            row["name"],
            str(row["seed"]),
            epsilon,
            f"{row['test_accuracy']:.2%}",
            f"{row['goal']:.1%}",
            f"{row['version_s']:.2f} s",
            f"{goal_s:.2f} s",
        )
    flower = f"{FLOWER_S} s"
    table.add_row("Flower 1.41 (published, not run)", "", "", "", "", flower, "")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
