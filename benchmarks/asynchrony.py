"""Asynchronous against synchronous: virtual time to an accuracy, boards of all speeds.

`python -m benchmarks.asynchrony` trains digits with 50 virtual boards whose speeds are
lognormal(1), K = 5: waiting for all that were asked; asking 30 % more and taking the
first; and asynchronously, with 2 K and 5 K boards in flight. `--data mnist` takes the
CNN, 100 boards and K = 10, from the MNIST files (STARLING_DATA).
"""

import argparse
import sys
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.result_file import keep
from starling.fleet import FleetPlan, Pace, run_virtual
from starling.fleet.report.run_report import LEVELS, first_reached

SIGMA = 1.0
PLANS = {
    "digits": FleetPlan(
        devices=50, buffer=5, model="mlp", privacy="none", until_version=150
    ),
    "mnist": FleetPlan(
        devices=100, buffer=10, data="mnist", privacy="none", until_version=100
    ),
}


def measure(plan: FleetPlan, name: str, pace: Pace) -> dict[str, Any]:
    """Runs one fleet in virtual time."""
    run = run_virtual(replace(plan, time_limit_s=3600.0), pace)
    reached = first_reached(run.last)
    times = {f"{level:g}": point.time_s for level, point in reached.items()}
    staleness = [point.staleness_mean or 0.0 for point in run.last.versions[1:]]
    return {
        "name": name,
        "rule": plan.rule,
        "times_s": times,
        "versions": {f"{at:g}": point.version for at, point in reached.items()},
        "accuracy": run.last.accuracy,
        "staleness": sum(staleness) / max(1, len(staleness)),
        "verified": run.outcome.verified,
    }


def main(argv: list[str]) -> int:
    """Prints the table and writes the results."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.asynchrony")
    made.add_argument("--data", choices=tuple(PLANS), default="digits")
    made.add_argument("--split", default="iid")
    made.add_argument("--rule", default="fedbuff")
    made.add_argument("--seed", type=int, default=1)
    options = made.parse_args(argv)
    plan = replace(
        PLANS[options.data],
        split=options.split,
        seed=options.seed,
        rule=options.rule,
    )
    pace = Pace(speed_sigma=SIGMA, virtual_time=True)
    found = [
        measure(plan, "waits for all", replace(pace, waves=True)),
        measure(plan, "asks 30 % more", replace(pace, over_select=0.3)),
        *(
            measure(replace(plan, leases=n * plan.buffer), f"{n} K in flight", pace)
            for n in (2, 5)
        ),
    ]
    table = Table(title=f"{options.data}, {options.split}, lognormal({SIGMA:g})")
    columns = [f"s to {level:.0%}" for level in LEVELS]
    for name in ("pace", "rule", *columns, "times quicker", "staleness", "last"):
        table.add_column(name, justify="right")
    top = f"{LEVELS[-1]:g}"
    for row in found:
        times = [row["times_s"].get(f"{level:g}") for level in LEVELS]
        shown = ["-" if each is None else f"{each:.1f}" for each in times]
        both = found[0]["times_s"].get(top), times[-1]
        gain = "-" if None in both else f"{both[0] / both[1]:.1f}"
        accuracy = "-" if row["accuracy"] is None else f"{row['accuracy']:.1%}"
        table.add_row(
            row["name"], row["rule"], *shown, gain, f"{row['staleness']:.1f}", accuracy
        )
    Console().print(table)
    keep("asynchrony", found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
