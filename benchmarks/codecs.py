"""What each codec of updates costs in accuracy, and what it saves in bytes.

`python -m benchmarks.codecs` trains digits in virtual fleets of 20 boards, ten updates
a version, with every codec: without privacy and with record-level epsilon 8 and 2. All
of a seed but keys, noise and rounding is the same for all codecs. Bytes are those of
`benchmarks.wire`. `--model mlp cnn` takes other models.
"""

import argparse
import sys
from dataclasses import replace
from itertools import product
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.result_file import keep
from benchmarks.wire import update_bytes
from starling.engine.opened_bundle import open_packed
from starling.fleet import FleetPlan, Pace
from starling.fleet.runtime.training_material import prepare
from starling.fleet.runtime.virtual_run import run_prepared
from starling.protocol.learning.codec_terms import CODEC_NAMES

PLAN = FleetPlan(devices=20, buffer=10, until_version=60, time_limit_s=3600.0)
PRIVACY = {"none": None, "epsilon 8": 8.0, "epsilon 2": 2.0}


def measure(model: str, privacy: str, codec: str, seeds: int) -> dict[str, Any]:
    """Runs the fleets of one cell, one for each seed."""
    epsilon = PRIVACY[privacy]
    plan = replace(PLAN, model=model, codec=codec)
    if epsilon is None:
        plan = replace(plan, privacy="none")
    else:
        plan = replace(plan, epsilon=epsilon)
    materials = [prepare(replace(plan, seed=1 + at)) for at in range(seeds)]
    runs = [run_prepared(material, Pace()) for material in materials]
    return {
        "model": model,
        "privacy": privacy,
        "codec": codec,
        "accuracies": [run.last.accuracy for run in runs],
        "versions": [run.last.version for run in runs],
        "parameters": open_packed(materials[0].bundle).manifest.dimension,
        "verified": all(run.outcome.verified for run in runs),
    }


def main(argv: list[str]) -> int:
    """Prints a table for each model and writes the results; 1 if a chain is wrong."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.codecs")
    made.add_argument("--model", nargs="+", default=["softmax", "mlp"])
    made.add_argument("--seeds", type=int, default=3)
    options = made.parse_args(argv)
    found: list[dict[str, Any]] = []
    for model in options.model:
        rows = {
            (codec, privacy): measure(model, privacy, codec, options.seeds)
            for codec, privacy in product(CODEC_NAMES, PRIVACY)
        }
        found += rows.values()
        keep("codecs", found)
        Console().print(_table(model, rows))
    return int(not all(row["verified"] for row in found))


def _table(model: str, rows: dict[tuple[str, str], dict[str, Any]]) -> Table:
    dimension = next(iter(rows.values()))["parameters"]
    title = f"digits, {model} of {dimension:,} parameters; mean, worst of all seeds"
    table = Table(title=title)
    for name in ("codec", "bytes an update", *PRIVACY):
        table.add_column(name, justify="right")
    for codec in CODEC_NAMES:
        shown = [
            f"{sum(each) / len(each):.1%}, {min(each):.1%}"
            for each in (rows[codec, privacy]["accuracies"] for privacy in PRIVACY)
        ]
        table.add_row(codec, f"{update_bytes(1, codec, dimension):,}", *shown)
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
