"""What models of thousands of nodes cost to compile, to check and to load.

`python -m benchmarks.compile_time` prints a table and writes
benchmarks/results/compile_time.json: seconds of processor time, the best of several.
`load` is what a board takes to open the private gradient, `in file order` what ONNX
Runtime takes for the same nodes as the compiler wrote them.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import onnx

from benchmarks.harness.result_file import keep
from benchmarks.training.large_networks import (
    deep_model,
    elementwise_model,
    lstm_model,
)
from starling.compiler import compile_model
from starling.compiler.bundle.gradient_check import check_bundle
from starling.engine.runtime import onnxruntime_session
from starling.protocol.model.training_bundle import PRIVATE_GRADIENT

SEED, TURNS = 1, 2
MODELS: dict[str, Callable[[np.random.Generator], onnx.ModelProto]] = {
    "4,000 elementwise nodes": lambda rng: elementwise_model(rng, 4000),
    "700 layers, 1,400 weights": lambda rng: deep_model(rng, 700),
    "LSTM, two layers, 128 steps": lambda rng: lstm_model(rng, 128),
}


def spent_s(work: Callable[[], object], turns: int = TURNS) -> float:
    """Processor time of the fastest turn."""
    best = float("inf")
    for _ in range(turns):
        gc.collect()
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def measure(model: onnx.ModelProto) -> dict[str, float]:
    """One row of the table."""
    bundle = compile_model(model, loss="cross-entropy")
    graph = bundle.opened.graphs[PRIVATE_GRADIENT]
    row = {
        "nodes": float(len(graph.nodes)),
        "compile": spent_s(lambda: compile_model(model, loss="cross-entropy")),
        "check": spent_s(lambda: check_bundle(bundle, np.random.default_rng(SEED)), 1),
        "load": spent_s(lambda: onnxruntime_session.open_session(graph)),
    }
    with mock.patch.object(onnxruntime_session, "by_depth", lambda given: given):
        row["in file order"] = spent_s(lambda: onnxruntime_session.open_session(graph))
    return row


def main() -> int:
    """Prints the table and writes it."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = {}
    head = ("nodes", "compile", "check", "load", "in file order")
    sys.stdout.write(f"{'':<28}" + "".join(f"{name:>15}" for name in head) + "\n")
    for name, make in MODELS.items():
        row = rows[name] = measure(make(np.random.default_rng(SEED)))
        cells = [f"{row['nodes']:15,.0f}", *[f"{row[key]:15.2f}" for key in head[1:]]]
        sys.stdout.write(f"{name:<28}" + "".join(cells) + "\n")
        sys.stdout.flush()
    keep("compile_time", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
