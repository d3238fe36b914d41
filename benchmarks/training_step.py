"""How fast a training step is: examples per second on one thread.

`python -m benchmarks.training_step` prints a table for each of `training.networks` and
writes benchmarks/results/training_step.json; with `--docs` the tables go into
docs/benchmarks.md, too. A step of ours is a call of the board's `Trainer`. PyTorch and
Opacus take part if they are installed, and onnxruntime-training-cpu if
STARLING_ORT_TRAINING names the interpreter of an environment that has it (it cannot
share one with onnxruntime). Time is the processor's, so that waiting for a busy machine
does not count, and all contenders alternate, so that its busy caches are the same for
all. A turn gives the median time of a step, and the best turn counts: other work on the
machine only ever adds. The Opacus wheel brings a top-level package `benchmarks` that
hides this one; remove it.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.result_file import keep
from benchmarks.training.networks import NETWORKS, Network
from starling.agent import open_trainer
from starling.agent.training.gradient_clipping import Clip, ClippedSum
from starling.compiler import compile_model
from starling.protocol.learning.task import MICRO, Q24
from starling.protocol.privacy.clipping_functions import NORM
from starling.protocol.privacy.noise_grid import noise_grid

Step = Callable[[], object]
Turn = Callable[[], float]
"""Runs for a while and returns the median time of one step, in seconds."""
BATCHES = (1, 10, 32, 64)
TURNS = 15
TURN_S = 0.1
SEED = 1
OURS, PRIVATE, OPACUS = "starling", "starling, private", "opacus"
BOARD = "starling, board"
PEERS = ("pytorch", "ort-training")
_RATIOS = {
    "plain : better peer": (OURS, PEERS),
    "private : opacus": (PRIVATE, (OPACUS,)),
    "private : plain": (PRIVATE, (OURS,)),
    "board : private": (BOARD, (PRIVATE,)),
}
"""Quotients of rates, by heading."""
DOCS = Path(__file__).parents[1] / "docs" / "benchmarks.md"
MARKS = ("<!-- training_step -->", "<!-- /training_step -->")


def starling_steps(
    network: Network, x: NDArray[np.float32], y: NDArray[np.int64]
) -> dict[str, Step]:
    """The two compiled graphs on one batch, and what a board does with one of them."""
    model = network.make(np.random.default_rng(SEED))
    trainer = open_trainer(compile_model(model, loss="cross-entropy").packed)
    theta = trainer.theta
    clip = Clip(Q24, NORM, noise_grid(Q24, MICRO, theta.size).exponent)

    def board() -> ClippedSum:
        found = ClippedSum(theta.size, clip)
        for record in range(len(x)):
            rows = slice(record, record + 1)
            found.add(trainer.gradient_sum(theta, x[rows], y[rows])[0])
        return found

    return {
        OURS: lambda: trainer.gradient_sum(theta, x, y),
        PRIVATE: lambda: trainer.private_gradient_sum(theta, x, y, 1.0),
        BOARD: board,
    }


def turn(step: Step) -> float:
    """The median processor time of one step, over `TURN_S`."""
    times: list[float] = []
    end = time.perf_counter() + TURN_S
    while time.perf_counter() < end:
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    return statistics.median(times)


def rates(turns: dict[str, Turn], examples: int) -> dict[str, float]:
    """Examples per second of each contender, in turns."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(TURNS):
        for name, take in turns.items():
            times[name].append(take())
    return {name: examples / min(taken) for name, taken in times.items()}


def contenders(name: str, batch: int) -> dict[str, Turn]:
    """Everybody who can train a network here, on one random batch."""
    network, rng = NETWORKS[name], np.random.default_rng(SEED)
    x = rng.random((batch, *network.row), np.float32)
    y = rng.integers(0, network.classes, batch)
    steps = starling_steps(network, x, y)
    if find_spec("torch"):
        from benchmarks.training.pytorch_peer import torch_steps

        steps |= torch_steps(name, x, y)
    for step in steps.values():
        step()
    turns = {key: _turns(step) for key, step in steps.items()}
    interpreter = os.environ.get("STARLING_ORT_TRAINING")
    if interpreter:
        from benchmarks.training.ort_training_peer import ort_training_turn

        model = network.make(np.random.default_rng(SEED))
        take = ort_training_turn(interpreter, model, x, y, TURN_S)
        turns |= {"ort-training": take} if take else {}
    return turns


def _turns(step: Step) -> Turn:
    return lambda: turn(step)


def main() -> int:
    """Prints the tables and writes the results."""
    parser = argparse.ArgumentParser(prog="training_step")
    parser.add_argument("--docs", action="store_true")
    options = parser.parse_args()
    tables: dict[str, dict[str, dict[str, int]]] = {}
    shown = []
    for name in NETWORKS:
        rows = {}
        for batch in BATCHES:
            found = rates(contenders(name, batch), batch)
            rows[str(batch)] = {key: round(rate) for key, rate in found.items()}
        tables[name] = rows
        shown.append(_table(name, rows))
        sys.stdout.write(f"{shown[-1]}\n")
        sys.stdout.flush()
    document = {
        "unit": "examples per second on one thread, by network and batch",
        "networks": tables,
    }
    keep("training_step", document)
    if options.docs:
        before, _, rest = DOCS.read_text().partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        whole = (before, MARKS[0], "\n\n", "\n".join(shown), "\n", MARKS[1], after)
        DOCS.write_text("".join(whole))
    return 0


def _table(name: str, rows: dict[str, dict[str, int]]) -> str:
    names = list(next(iter(rows.values())))
    lines = [(name, *names, *_RATIOS), ("---",) * (1 + len(names) + len(_RATIOS))]
    for batch, row in rows.items():
        ratios = [_ratio(row, *sides) for sides in _RATIOS.values()]
        lines.append((f"batch {batch}", *[f"{row[item]:,}" for item in names], *ratios))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _ratio(row: dict[str, int], own: str, others: tuple[str, ...]) -> str:
    known = [row[item] for item in others if item in row]
    return f"{row[own] / max(known):.2f}" if known else "-"


if __name__ == "__main__":
    raise SystemExit(main())
