"""MNIST with a hundred virtual boards, ten at a time, ten updates a version.

`python -m benchmarks.mnist` needs the four MNIST files (STARLING_DATA). It trains the
CNN of 21,840 parameters twice: by local epochs of batch 20 without privacy, and by one
clipped and noised gradient a turn at record-level epsilon 8, with exactly ten releases
of every board. Accuracy is on the test files, which nobody sees before the end.
"""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.result_file import keep
from starling.fleet import FleetPlan, Pace, run_virtual

VERSIONS = 100
FLOWER_S = 9.6
"""Flower 1.41 on Ray with PyTorch, a round of ten clients, two cores; published."""
SPEED_UP = 15
RUNS = (("none", 0.985), ("record", 0.95))


def measure(privacy: str, goal: float) -> dict[str, Any]:
    """Runs one fleet."""
    plan = FleetPlan(
        devices=100,
        buffer=10,
        data="mnist",
        privacy=privacy,
        releases=10,
        until_version=VERSIONS,
        time_limit_s=3600.0,
    )
    run = run_virtual(plan, Pace(waves=True))
    training_s = run.last.versions[-1].time_s
    releases = [device.accepted for device in run.last.devices]
    return {
        "privacy": privacy,
        "epsilon": run.last.epsilon_max if run.heading.privacy else None,
        "delta": plan.delta,
        "unit": run.heading.privacy.unit if run.heading.privacy else None,
        "releases": [min(releases), max(releases)],
        "versions": run.last.version,
        "held_out_accuracy": run.last.accuracy,
        "test_accuracy": run.outcome.test_accuracy,
        "goal": goal,
        "wall_s": training_s,
        "version_s": training_s / run.last.version,
        "verified": run.outcome.verified,
    }


def main() -> int:
    """Prints the table and writes the results."""
    found = [measure(*run) for run in RUNS]
    table = Table(title="MNIST, 100 boards, 10 a version, CNN of 21,840 parameters")
    for name in ("privacy", "epsilon", "test", "goal", "a version", "goal"):
        table.add_column(name, justify="right")
    goal_s = FLOWER_S / SPEED_UP
    for row in found:
        epsilon = "-" if row["epsilon"] is None else f"{row['epsilon']:.2f}"
        table.add_row(
            row["privacy"],
            epsilon,
            f"{row['test_accuracy']:.2%}",
            f"{row['goal']:.1%}",
            f"{row['version_s']:.2f} s",
            f"{goal_s:.2f} s",
        )
    flower = f"{FLOWER_S} s"
    table.add_row("Flower 1.41 (published, not run)", "", "", "", flower, "")
    Console().print(table)
    results = {"starling": found, "flower_round_s": FLOWER_S}
    keep("mnist", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
