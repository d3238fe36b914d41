"""What attackers within the bound cost a fleet, by robust rule; and what a rule costs.

`python -m benchmarks.robustness` runs virtual fleets in which a fifth of the boards
attack from the first version on, each of nine attacks and none, with and without
privacy (record-level, total epsilon 2), boards alike and of two shards, without a
filter, which is the task's default, and with `spectral-clipping`. Accuracy is on test
examples where the data has some, else on held-out ones, with the recall of the worst
class behind it. Then it times each rule on ten updates of the CNN's 21,840 parameters.

    python -m benchmarks.robustness                           # digits, minutes
    python -m benchmarks.robustness --data mnist --splits iid # hours of one core
    python -m benchmarks.robustness --data mnist --front pen  # half a minute a cell
"""

import argparse
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness.attacked_fleet import (
    BUFFER,
    EPSILON,
    attacked_plan,
    class_metrics,
    fleet_parser,
)
from benchmarks.harness.result_file import keep
from benchmarks.heads import FrontData
from starling.coordinator.aggregation.robust.robust_filter import (
    RULES,
    filtered,
    in_one_order,
)
from starling.coordinator.aggregation.strategy import WeightedUpdate
from starling.fleet import FleetPlan, Pace
from starling.fleet.runtime.virtual_run import run_prepared
from starling.protocol.learning.metrics import ClassMetrics
from starling.protocol.learning.task import Q15, Q24, ROBUST_NAMES, Robust

GOAL_MS = 30.0
DIMENSION, PLEDGE = 21_840, 600
_REPEATS = 7


@dataclass(frozen=True)
class Cell:
    """One fleet's end.

    Attributes:
      data: Name of the data set.
      split: How it was dealt out.
      privacy: `record` or `none`.
      robust: Name of the rule.
      attack: What a fifth of the boards did.
      accuracy: Mean over the seeds.
      recall: Of the worst class, mean over the seeds.
      backdoor: How often its pattern worked, mean over the seeds; None without one.
    """

    data: str
    split: str
    privacy: str
    robust: str
    attack: str
    accuracy: float
    recall: float
    backdoor: float | None


def measure(plan: FleetPlan, attack: str, seeds: int, fronts: FrontData) -> Cell:
    """Runs one fleet for each seed."""
    found, backdoors = list[ClassMetrics](), list[float]()
    for seed in range(1, seeds + 1):
        material = fronts.material(replace(plan, seed=seed))
        outcome = run_prepared(material, Pace()).outcome
        found.append(class_metrics(outcome))
        if outcome.backdoor_success is not None:
            backdoors.append(outcome.backdoor_success)
    worst = [min(r for r in each.recalls if r is not None) for each in found]
    return Cell(
        plan.data,
        plan.split,
        plan.privacy,
        plan.robust or "none",
        attack,
        float(np.mean([each.accuracy for each in found])),
        float(np.mean(worst)),
        float(np.mean(backdoors)) if backdoors else None,
    )


def times_ms() -> dict[str, float]:
    """How long each rule takes for a buffer; the best of some."""
    rng = np.random.default_rng(1)
    updates = [
        WeightedUpdate(
            np.rint(rng.normal(0.0, 3.0, DIMENSION) * Q24).astype(np.int64), Q15, PLEDGE
        )
        for _ in range(BUFFER)
    ]
    found = {}
    for number in sorted(RULES):
        best_s = float("inf")
        for _ in range(_REPEATS):
            begun_s = time.perf_counter()
            filtered(in_one_order(updates), number)
            best_s = min(best_s, time.perf_counter() - begun_s)
        name = Robust(number).name.lower().replace("_", "-")
        found[name] = 1000 * best_s
    return found


def shown(cells: list[Cell], data: str, split: str, privacy: str) -> Table:
    """The cells of one split and privacy: attacks down, rules across."""
    noise = f"record-level epsilon {EPSILON:g}" if privacy == "record" else "no privacy"
    table = Table(title=f"{data}, {split}, {noise}: accuracy / recall of worst class")
    chosen = [cell for cell in cells if (cell.split, cell.privacy) == (split, privacy)]
    rules = list(dict.fromkeys(cell.robust for cell in chosen))
    table.add_column("attack")
    for rule in rules:
        table.add_column(rule, justify="right")
    for attack in dict.fromkeys(cell.attack for cell in chosen):
        row = [cell for cell in chosen if cell.attack == attack]
        table.add_row(attack, *[_text(cell) for cell in row])
    return table


def _text(cell: Cell) -> str:
    text = f"{cell.accuracy:.1%} / {cell.recall:.0%}"
    if cell.backdoor is None:
        return text
    return f"{text}, backdoor {cell.backdoor:.0%}"


def main(argv: list[str]) -> int:
    """Prints the tables and writes the results."""
    options = _parser().parse_args(argv)
    cells: list[Cell] = []
    console, fronts = Console(), FrontData()
    for split in options.splits:
        for privacy in options.privacy:
            for attack in options.attacks:
                place = (options.data, split, privacy, attack, options.front)
                plan = attacked_plan(*place)
                for rule in options.rules:
                    ruled = replace(plan, robust=rule)
                    cells.append(measure(ruled, attack, options.seeds, fronts))
            console.print(shown(cells, options.data, split, privacy))
    found = times_ms()
    table = Table(title=f"{BUFFER} updates of {DIMENSION:,} parameters, ms")
    for name in ("rule", "time", "goal"):
        table.add_column(name)
    for name, took in found.items():
        table.add_row(name, f"{took:.1f}", f"{GOAL_MS:.0f}")
    console.print(table)
    results: dict[str, Any] = {
        "cells": [asdict(cell) for cell in cells],
        "times_ms": found,
    }
    keep(f"robustness{options.suffix}", results)
    return 0


def _parser() -> argparse.ArgumentParser:
    made = fleet_parser("benchmarks.robustness")
    made.add_argument(
        "--rules",
        nargs="+",
        choices=tuple(ROBUST_NAMES),
        default=["none", "spectral-clipping"],
    )
    made.add_argument("--suffix", default="", help="of the name of the results' file")
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
