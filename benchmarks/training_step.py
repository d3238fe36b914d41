"""How fast a training step is: examples per second on one thread.

`python -m benchmarks.training_step` prints a table for each of `training_networks` and
writes benchmarks/results/training_step.json. PyTorch and Opacus take part if they are
installed, and onnxruntime-training-cpu if STARLING_ORT_TRAINING names the interpreter
of an environment that has it (it cannot share one with onnxruntime). All contenders
alternate, so that a busy machine is busy for all of them. A turn gives the median time
of a step, and the best turn counts: other work on the machine only ever adds. The
Opacus wheel brings a top-level package `benchmarks` that hides this one; remove it.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.training_networks import NETWORKS, Network
from compiler import compile_model
from protocol.bundle import GRADIENT, PRIVATE_GRADIENT

Step = Callable[[], object]
Turn = Callable[[], float]
"""Runs for a while and returns the median time of one step, in seconds."""
Arrays = dict[str, NDArray[np.generic]]
BATCHES = (1, 10, 32, 64)
TURNS = 9
TURN_S = 0.1
SEED = 1
RESULT = Path(__file__).parent / "results" / "training_step.json"


def starling_steps(
    network: Network, x: NDArray[np.float32], y: NDArray[np.int64]
) -> dict[str, Step]:
    """The two compiled graphs on one batch."""
    model = network.make(np.random.default_rng(SEED))
    bundle = compile_model(model, loss="cross-entropy", name="benchmark")
    plain: Arrays = {"theta": bundle.theta, "x": x, "y": y}
    private: Arrays = {**plain, "clip": np.array(1.0, np.float32)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = [
        onnxruntime.InferenceSession(
            bundle.files[file], options, providers=["CPUExecutionProvider"]
        )
        for file in (GRADIENT, PRIVATE_GRADIENT)
    ]
    return {
        "starling": lambda: sessions[0].run(None, plain),
        "starling, private": lambda: sessions[1].run(None, private),
    }


def turn(step: Step) -> float:
    """The median time of one step, over `TURN_S`."""
    times: list[float] = []
    end = time.perf_counter() + TURN_S
    while time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
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
        from benchmarks.training_peers import torch_steps

        steps |= torch_steps(name, x, y)
    for step in steps.values():
        step()
    turns = {key: _turns(step) for key, step in steps.items()}
    interpreter = os.environ.get("STARLING_ORT_TRAINING")
    if interpreter:
        from benchmarks.training_ort import ort_training_turn

        model = network.make(np.random.default_rng(SEED))
        take = ort_training_turn(interpreter, model, x, y, TURN_S)
        turns |= {"ort-training": take} if take else {}
    return turns


def _turns(step: Step) -> Turn:
    return lambda: turn(step)


def main() -> int:
    """Prints the tables and writes the results."""
    tables: dict[str, dict[str, dict[str, int]]] = {}
    for name in NETWORKS:
        rows = {}
        for batch in BATCHES:
            found = rates(contenders(name, batch), batch)
            rows[str(batch)] = {key: round(rate) for key, rate in found.items()}
        tables[name] = rows
        _show(name, rows)
    RESULT.parent.mkdir(exist_ok=True)
    document = {
        "unit": "examples per second on one thread, by network and batch",
        "networks": tables,
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _show(name: str, rows: dict[str, dict[str, int]]) -> None:
    names = list(next(iter(rows.values())))
    head = "  ".join(f"{item:>17}" for item in names)
    sys.stdout.write(f"{name:<10}  {head}\n")
    for batch, row in rows.items():
        cells = "  ".join(f"{row[item]:>15,}/s" for item in names)
        sys.stdout.write(f"batch {batch:<4}  {cells}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
