"""Runs the cells of an experiment one after the other; each is on disk when it is done.

What is there is not run again, so that an interrupted experiment goes on where it was.
"""

import io
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starling.durable.files import read_if_present, storage_errors, write_atomic
from starling.fleet.monitor.run_snapshot import RunHeading, RunSnapshot, clock_text
from starling.fleet.report.run_report import FleetRun
from starling.fleet.reproduction.experiment_grid import (
    ExperimentCell,
    ExperimentGrid,
)
from starling.fleet.reproduction.experiment_report import Found, figures, markdown
from starling.fleet.runtime.central_training import trained_on_all
from starling.fleet.runtime.training_material import prepare
from starling.fleet.runtime.virtual_run import Pace, run_prepared
from starling.protocol.errors import ConfigError
from starling.protocol.learning.metrics import RegressionMetrics

CENTRAL = "central.json"
_FILE_BYTES_MAX = 64 << 20
_SAY_EVERY_S = 10.0
_READABLE = 0o644
_DPI = 150
Say = Callable[[str], None]
Document = dict[str, Any]


class ExperimentRun:
    """An experiment in a folder."""

    def __init__(self, grid: ExperimentGrid, folder: Path, say: Say) -> None:
        """Reads what is there.

        Raises:
          ConfigError: If the folder holds cells of another experiment.
          StorageError: If the disk refuses.
        """
        self._grid, self._folder, self._say = grid, folder, say
        with storage_errors(folder):
            (folder / "cells").mkdir(parents=True, exist_ok=True)
        self._found: dict[ExperimentCell, Document] = {}
        for cell in grid.cells:
            kept = self._read(f"cells/{cell.name}.json", grid.plan(cell).document())
            if kept is not None:
                self._found[cell] = kept
        self._paces_s = {
            cell.noise: found["wall_s"] / cell.rounds
            for cell, found in self._found.items()
        }

    @property
    def found(self) -> Found:
        """Finished cells."""
        return dict(self._found)

    @property
    def central(self) -> float:
        """V_SUM: accuracy on the held-out examples of all data in one place."""
        grid = self._grid
        asked = {key: getattr(grid, key) for key in ("data", "model", "front", "seed")}
        kept = self._read(CENTRAL, asked)
        if kept is None:
            self._say("training on all data in one place")
            plan = grid.plan(ExperimentCell("none", "iid", grid.rounds[0]))
            metrics, epochs = trained_on_all(prepare(plan))
            if metrics is None or isinstance(metrics, RegressionMetrics):
                detail = "what is trained on all data in one place has no accuracy"
                raise ConfigError(detail, key="--data")
            kept = {"plan": asked, "accuracy": metrics.accuracy, "epochs": epochs}
            self._write(CENTRAL, kept)
        accuracy: float = kept["accuracy"]
        return accuracy

    def run(self) -> None:
        """Runs the cells that are not there, and leaves table and figures.

        Raises:
          ConfigError: If the data are not there.
          KeyboardInterrupt: If somebody ended it; finished cells are kept.
          StorageError: If the disk refuses.
        """
        left = [cell for cell in self._grid.cells if cell not in self._found]
        done = len(self._found)
        if done:
            self._say(f"{done} of {len(self._grid.cells)} cells are there already")
        for at, cell in enumerate(left):
            self._found[cell] = self._run_cell(cell, left[at:])
            self._write(f"cells/{cell.name}.json", self._found[cell])
        central = self.central
        text = markdown(self._grid, self._found, central)
        path = self._folder / "table.md"
        write_atomic(path, f"{text}\n".encode(), _READABLE)
        for name, figure in figures(self._grid, self._found, central).items():
            picture = io.BytesIO()
            figure.savefig(picture, format="png", dpi=_DPI)
            write_atomic(self._folder / name, picture.getvalue(), _READABLE)

    def _run_cell(self, cell: ExperimentCell, left: list[ExperimentCell]) -> Document:
        plan = self._grid.plan(cell)
        began_s = said_s = time.monotonic()
        number = len(self._grid.cells) - len(left) + 1

        def report_progress(_heading: RunHeading, snapshot: RunSnapshot) -> None:
            nonlocal said_s
            now_s = time.monotonic()
            if snapshot.version and now_s - said_s >= _SAY_EVERY_S:
                said_s = now_s
                self._paces_s[cell.noise] = (now_s - began_s) / snapshot.version
                self._say(self._progress(number, cell, snapshot, left))

        run = run_prepared(prepare(plan), Pace(waves=True), on_snapshot=report_progress)
        if run.outcome.stopped_because == "interrupted":
            raise KeyboardInterrupt
        wall_s = time.monotonic() - began_s
        self._paces_s[cell.noise] = wall_s / cell.rounds
        made = _document(plan.document(), run, wall_s)
        self._say(
            f"cell {number} of {len(self._grid.cells)}, {cell.name}: "
            f"{run.last.accuracy or 0.0:.1%} in {clock_text(wall_s)}"
        )
        return made

    def _progress(
        self,
        number: int,
        cell: ExperimentCell,
        snapshot: RunSnapshot,
        left: list[ExperimentCell],
    ) -> str:
        guess_s = max(self._paces_s.values())
        rounds_s = [
            each.rounds * self._paces_s.get(each.noise, guess_s) for each in left
        ]
        remaining_s = sum(rounds_s) - snapshot.version * self._paces_s[cell.noise]
        accuracy = "" if snapshot.accuracy is None else f", {snapshot.accuracy:.1%}"
        return (
            f"cell {number} of {len(self._grid.cells)}, {cell.name}: version "
            f"{snapshot.version} of {cell.rounds}{accuracy}; all in about "
            f"{clock_text(max(0.0, remaining_s))}"
        )

    def _read(self, name: str, plan: Document) -> Document | None:
        content = read_if_present(self._folder / name, _FILE_BYTES_MAX)
        if content is None:
            return None
        kept: Document | None = None
        with suppress(ValueError):
            kept = json.loads(content)
        stated = kept.get("plan") if isinstance(kept, dict) else None
        # Through JSON, which makes lists of tuples: both sides as they were written.
        if stated != json.loads(json.dumps(plan)):
            raise ConfigError(
                "is of another experiment; take another folder, or remove it",
                file=str(self._folder / name),
                key="--out",
            )
        return kept

    def _write(self, name: str, document: Document) -> None:
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
        write_atomic(self._folder / name, text.encode(), _READABLE)


def _document(plan: Document, run: FleetRun, wall_s: float) -> Document:
    terms = run.heading.privacy
    releases = [device.accepted for device in run.last.devices]
    return {
        "plan": plan,
        "privacy": None if terms is None else asdict(terms),
        "epsilon": run.last.epsilon_max,
        "releases": [min(releases), max(releases)],
        "accuracy": [
            [point.version, point.accuracy]
            for point in run.last.versions
            if point.accuracy is not None
        ],
        "test_accuracy": run.outcome.test_accuracy,
        "verified": run.outcome.verified,
        "wall_s": wall_s,
    }


def say_on_stderr(line: str) -> None:
    """Tells whoever waits."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
