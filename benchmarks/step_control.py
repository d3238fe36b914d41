"""Step control under chosen lateness: does a version ever fall far below the best?

`python -m benchmarks.step_control` lets the product's boards train and its strategies
make versions, with every update `tau` versions old (pure delay), or with `M` versions
in a row from one base (herds), as after a coordinator or broker that stood still.
`--data mnist --model cnn` needs the MNIST files (STARLING_DATA) and hours.
"""

import argparse
import sys
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.delayed_versions import (
    FLOOR,
    REACHED,
    LateRun,
    cohorts,
    late_run,
    pure_delay,
)
from benchmarks.harness.result_file import keep
from starling.fleet import FleetPlan
from starling.fleet.plan import RULES
from starling.protocol.errors import NormExceeded

GOAL = 0.02
"""Most that a version from `FLOOR` on may fall below the best before it."""
TAUS = (0, 1, 2, 3, 5, 10, 20)
HERDS = (2, 3, 5, 10)
PLAN = FleetPlan(devices=20, buffer=2, privacy="none", until_version=80)


def measure(plan: FleetPlan, kind: str, size: int, seeds: int) -> dict[str, Any]:
    """Runs one cell; the worst seed counts for the fall, the mean for the rest.

    Where a board's model leaves the range of updates the cell has no figures.
    """
    bases = pure_delay(size) if kind == "delay" else cohorts(size)
    cell = {"model": plan.model, "rule": plan.rule, "kind": kind, "size": size}
    try:
        runs: list[LateRun] = [
            late_run(replace(plan, seed=1 + seed), bases) for seed in range(seeds)
        ]
    except NormExceeded as error:
        return cell | {"diverged": str(error)}
    reached = [run.reached for run in runs if run.reached is not None]
    return cell | {
        "last": sum(run.last for run in runs) / seeds,
        "least": min(run.least for run in runs),
        "fall": max(run.fall for run in runs),
        "reached": sum(reached) / seeds if len(reached) == seeds else None,
    }


def _shown(row: dict[str, Any]) -> list[str]:
    heads = [row["model"], row["rule"], f"{row['kind']} {row['size']}"]
    if "diverged" in row:
        return [*heads, "diverged", "-", "(!)", "-"]
    reached = "-" if row["reached"] is None else f"{row['reached']:.0f}"
    within = "" if row["fall"] <= GOAL else " (!)"
    return [
        *heads,
        f"{row['last']:.1%}",
        f"{row['least']:.1%}",
        f"{100 * row['fall']:.1f}{within}",
        reached,
    ]


def _options(argv: list[str]) -> argparse.Namespace:
    made = argparse.ArgumentParser(prog="python -m benchmarks.step_control")
    made.add_argument("--rules", nargs="+", default=["fedbuff", "projected"])
    made.add_argument("--model", nargs="+", default=["softmax", "mlp"])
    made.add_argument("--data", default="digits")
    made.add_argument("--seeds", type=int, default=3)
    cells = [f"delay:{tau}" for tau in TAUS] + [f"herd:{size}" for size in HERDS]
    made.add_argument("--late", nargs="+", choices=cells, default=cells)
    return made.parse_args(argv)


def main(argv: list[str]) -> int:
    """Prints the table and writes the results."""
    options = _options(argv)
    plan = replace(PLAN, data=options.data)
    cells = [each.split(":") for each in options.late]
    found = []
    for model in options.model:
        for kind, size in cells:
            for rule in [each for each in RULES if each in options.rules]:
                cell = replace(plan, model=model, rule=rule)
                found.append(measure(cell, kind, int(size), options.seeds))
                sys.stderr.write(" ".join(_shown(found[-1])) + "\n")
    table = Table(title=f"{options.data}, {options.seeds} seeds, 80 versions, K = 2")
    for name in ("model", "rule", "late", "last", f"least from {FLOOR}"):
        table.add_column(name)
    table.add_column("fall, points", justify="right")
    table.add_column(f"version with {REACHED:.0%}", justify="right")
    for row in found:
        table.add_row(*_shown(row))
    Console().print(table)
    results = {"plan": asdict(plan), "goal": GOAL, "cells": found}
    keep("step_control", results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
