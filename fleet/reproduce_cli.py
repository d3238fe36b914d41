"""`starling reproduce`: a paper's experiment, with the epsilons that it leaves open."""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from starling.protocol.errors import EXIT_DONE, EXIT_INTERRUPTED
from starling.service.arguments import EXIT_STATUS, command, whole_number

ROUNDS_MAX = 100_000
"""As `fleet.plan.VERSIONS_MAX`, whose module takes long to import."""
_EXAMPLES = """\
  starling reproduce ll-bcfl --quick
  starling reproduce ll-bcfl --out ll-bcfl
  starling reproduce ll-bcfl --rounds 100 --model softmax --epsilon 50 --out softmax
  starling reproduce ll-bcfl --model head --front pen --rounds 100 200 --out head

Each finished cell lies in DIR/cells; the same command goes on where it was. MNIST is
found through STARLING_DATA. DIR/table.md and figure3 to figure8 are made at the end.
"""


def main(argv: list[str]) -> int:
    """Runs an experiment.

    Returns:
      The exit status.

    Raises:
      FederationError: What the user must know.
    """
    options = parser().parse_args(argv)
    # Imported late, so that --help and usage errors are quick.
    from rich.console import Console

    from starling.fleet.reproduction.experiment_grid import QUICK, ExperimentGrid
    from starling.fleet.reproduction.experiment_report import table
    from starling.fleet.runtime.experiment_run import ExperimentRun, say_on_stderr
    from starling.fleet.runtime.terminal_screen import terminated_as_interrupted

    grid = replace(QUICK if options.quick else ExperimentGrid(), **_asked(options))
    folder = options.out or Path("ll-bcfl-quick" if options.quick else "ll-bcfl")
    with terminated_as_interrupted():
        run = ExperimentRun(grid, folder, say_on_stderr)
        try:
            run.run()
        except KeyboardInterrupt:
            say_on_stderr(f"interrupted; what is done is kept in {folder}")
            return EXIT_INTERRUPTED
    if options.json:
        cells = [{**asdict(cell), **found} for cell, found in run.found.items()]
        document = {"grid": asdict(grid), "central": run.central, "cells": cells}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        Console().print(table(grid, run.found, run.central))
    say_on_stderr(f"table.md and figures: {folder}")
    return EXIT_DONE


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command(
        "reproduce",
        "A paper's experiment on virtual boards, with its epsilons.",
        _EXAMPLES,
        f"{EXIT_STATUS}, 130 interrupted",
    )
    made.add_argument(
        "experiment",
        choices=("ll-bcfl",),
        help="noise by split by rounds, 100 boards, 10 a round (Wu and Kang)",
    )
    made.add_argument(
        "--quick", action="store_true", help="small data and few rounds, in seconds"
    )
    made.add_argument("--out", type=Path, metavar="DIR", help="(default ll-bcfl)")
    made.add_argument("--data", help="as of `starling fleet run` (default mnist)")
    made.add_argument("--model", help="as of `starling fleet run` (default cnn)")
    made.add_argument("--front", metavar="NAME", help="of --model head")
    made.add_argument("--epsilon", type=float, help="in total (default 8)")
    made.add_argument("--delta", type=float, help="of that epsilon (default 1e-5)")
    made.add_argument("--seed", type=int, help="(default 1)")
    made.add_argument(
        "--rounds",
        type=whole_number(1, ROUNDS_MAX),
        nargs="+",
        metavar="N",
        help="(default 100 200 500)",
    )
    made.add_argument(
        "--noise",
        dest="noises",
        nargs="+",
        metavar="NAME",
        help="none, laplace, gaussian, record, labels (default all but labels)",
    )
    made.add_argument(
        "--splits", nargs="+", metavar="NAME", help="iid, non-iid (default both)"
    )
    made.add_argument("--json", action="store_true", help="print one JSON document")
    return made


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """Fields of the grid that were asked for."""
    names = ("data", "model", "front", "epsilon", "delta", "seed")
    lists = ("rounds", "noises", "splits")
    asked = {name: getattr(options, name) for name in (*names, *lists)}
    return {
        name: tuple(value) if name in lists else value
        for name, value in asked.items()
        if value is not None
    }
