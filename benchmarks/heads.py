"""What a head on each front learns under record-level privacy, on MNIST.

`python -m benchmarks.heads` runs virtual fleets of 100 boards, ten updates a version,
100 versions, so that each board releases ten times: epsilon 1, 2 and 8 in total, boards
alike, of two shards, and by Dirichlet 0.1. Accuracy is on the test files, which nobody
sees before the end. Rates were chosen on held-out training examples; that of `fonts`
was not chosen for its network.

A front is frozen, so that its features are computed once, by the engine of a board, and
not at every version: the fleet trains the head on them, with the product's clipping,
noise, chain and aggregation. `--whole` runs the front in every training, as boards do,
to see that nothing differs but time.

Each cell is kept in benchmarks/results/heads as soon as it is done, and not run again.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from starling.compiler import compile_model
from starling.fleet import FleetPlan, Pace
from starling.fleet.datasets.partition import Examples, deal, hold_out
from starling.fleet.fronts.front_catalog import FRONTS, HEAD_MODEL
from starling.fleet.onnx_layers import ModelLayers
from starling.fleet.runtime.dataset_catalog import FleetDataSet, open_data_set
from starling.fleet.runtime.fronts.front_builder import open_front
from starling.fleet.runtime.fronts.front_features import features_of
from starling.fleet.runtime.training_material import (
    TrainingMaterial,
    prepare,
    shares_of,
    with_root,
)
from starling.fleet.runtime.virtual_run import run_prepared

RESULTS = Path(__file__).parent / "results" / "heads"
GOALS = {1.0: 0.965, 2.0: 0.97, 8.0: 0.975}
SPLITS = ("iid", "shards:2", "dirichlet:0.1")
BOARDS, CHOSEN, VERSIONS, RELEASES = 100, 10, 100, 10
_HELD_OUT = 2000


@dataclass(frozen=True)
class HeadCell:
    """One fleet.

    Attributes:
      front: Of the catalog.
      epsilon: In total.
      split: As a plan's.
      seed: Of everything but keys and noise.
      whole: Whether the front runs in every training.
    """

    front: str
    epsilon: float
    split: str
    seed: int
    whole: bool

    @property
    def path(self) -> Path:
        """Where its result is kept."""
        split = self.split.replace(":", "-")
        way = "-whole" if self.whole else ""
        name = f"{self.front}-{self.epsilon:g}-{split}-{self.seed}{way}.json"
        return RESULTS / name

    @property
    def plan(self) -> FleetPlan:
        """The fleet."""
        return FleetPlan(
            devices=BOARDS,
            buffer=CHOSEN,
            data="mnist",
            split=self.split,
            model=HEAD_MODEL,
            front=self.front,
            privacy="record" if self.epsilon else "none",
            epsilon=self.epsilon or 8.0,
            releases=RELEASES,
            until_version=VERSIONS,
            time_limit_s=24 * 3600.0,
            seed=self.seed,
        )


class FrontData:
    """MNIST as each front sees it, computed once."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._seen: dict[str, tuple[Examples, Examples]] = {}

    def material(self, plan: FleetPlan) -> TrainingMaterial:
        """Material of a fleet; of MNIST under a front, boards have features."""
        if plan.front is None or plan.data != "mnist":
            return prepare(plan)
        training, test = self._features(plan.front)
        rng = np.random.default_rng(plan.seed)
        shared, held_out = hold_out(training, _HELD_OUT, rng)
        whole = FleetDataSet("mnist", shared, held_out, test, 10)
        data, root = with_root(whole, plan)
        boards = deal(data.training, plan.devices, plan.split, rng)
        shape = shared.x.shape[1:]
        layers = ModelLayers(rng)
        layers.linear("head", "x", (shape[0], data.classes))
        model = layers.model(HEAD_MODEL, shape, data.classes)
        bundle = compile_model(model, loss=data.loss).packed
        shares = shares_of(data, boards, root)
        return TrainingMaterial(data, boards, shares, bundle, plan, root)

    def _features(self, front: str) -> tuple[Examples, Examples]:
        if front not in self._seen:
            raw = open_data_set("mnist", np.random.default_rng(0))
            assert raw.test is not None
            model = open_front(front, _say)
            pictures = Examples(
                np.concatenate([raw.training.x, raw.held_out.x]),
                np.concatenate([raw.training.y, raw.held_out.y]),
            )
            self._seen = {
                front: (
                    replace(pictures, x=features_of(model, pictures.x)),
                    replace(raw.test, x=features_of(model, raw.test.x)),
                )
            }
        return self._seen[front]


def measure(cell: HeadCell, data: FrontData) -> dict[str, Any]:
    """Runs one fleet."""
    began_s = time.monotonic()
    material = prepare(cell.plan) if cell.whole else data.material(cell.plan)
    run = run_prepared(material, Pace(waves=True))
    releases = [device.accepted for device in run.last.devices]
    metrics = run.outcome.metrics
    recalls = getattr(metrics.test if metrics else None, "recalls", None)
    return {
        "test": run.outcome.test_accuracy,
        "held_out": run.last.accuracy,
        "recall_worst": min(recalls) if recalls else None,
        "epsilon": run.last.epsilon_max,
        "releases": [min(releases), max(releases)],
        "versions": run.last.version,
        "verified": run.outcome.verified,
        "wall_s": time.monotonic() - began_s,
    }


def shown(found: Mapping[HeadCell, Mapping[str, Any]], front: str) -> Table:
    """The cells of one front: epsilon down, splits across; mean (worst) of seeds."""
    table = Table(title=f"head on {front}: {FRONTS[front].origin}")
    for name in ("epsilon", *SPLITS, "goal, iid"):
        table.add_column(name)
    mine = [cell for cell in found if cell.front == front]
    for epsilon in sorted({cell.epsilon for cell in mine}):
        row = [f"{epsilon:g}" if epsilon else "no privacy"]
        for split in SPLITS:
            tests = [
                100 * found[cell]["test"]
                for cell in mine
                if (cell.epsilon, cell.split) == (epsilon, split)
            ]
            row.append(_told(tests) if tests else "-")
        goal = GOALS.get(epsilon)
        table.add_row(*row, "" if goal is None else f"{100 * goal:.1f}")
    return table


def _told(tests: list[float]) -> str:
    return f"{np.mean(tests):.2f} ({min(tests):.2f}), {len(tests)}"


def main(argv: list[str]) -> int:
    """Runs what is not there yet, and prints the tables."""
    options = _parser().parse_args(argv)
    RESULTS.mkdir(parents=True, exist_ok=True)
    data, found = FrontData(), {}
    for front in options.fronts:
        for seed in range(1, 1 + options.seeds):
            for split in options.splits:
                for epsilon in options.epsilons:
                    cell = HeadCell(front, epsilon, split, seed, options.whole)
                    if not cell.path.is_file():
                        made = json.dumps(measure(cell, data), indent=1)
                        cell.path.write_text(made + "\n")
                    found[cell] = json.loads(cell.path.read_text())
                    _say(f"{cell.path.stem}: {found[cell]}")
        Console().print(shown(found, front))
    return 0


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="benchmarks.heads")
    made.add_argument(
        "--fronts", nargs="+", choices=tuple(FRONTS), default=list(FRONTS)
    )
    made.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    made.add_argument(
        "--epsilons", nargs="+", type=float, default=list(GOALS), help="0 for none"
    )
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--whole", action="store_true")
    return made


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
