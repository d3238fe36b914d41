"""What memory a training process takes, against what the compiler predicts for it.

`python -m benchmarks.training_memory [NAME...]` prints a table for `training.networks`,
MobileNetV2 and the head of one, and writes benchmarks/results/training_memory.json.
Each figure is the peak of resident memory of a fresh process that trains one batch size
with one graph, or with all three as a board's trainer does.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BATCHES = (1, 10, 32, 64)
STEPS = 20
LARGE_BATCHES, LARGE_STEPS = (1, 4, 8), 3
SEED = 1
RESULT = Path(__file__).parent / "results" / "training_memory.json"
KINDS = ("plain", "private", "all")
_CHILD = "--child"


@dataclass(frozen=True)
class _Case:
    make: Callable[[np.random.Generator], Any]
    train: tuple[str, ...] = ()
    batches: tuple[int, ...] = BATCHES
    steps: int = STEPS


def main() -> int:
    """Prints the table and writes it."""
    words = sys.argv[1:]
    if words[:1] == [_CHILD]:
        return _child(Path(words[1]), int(words[2]), words[3], int(words[4]))
    # Its imports would count as the child's memory.
    import argparse

    from starling.compiler import compile_model
    from starling.compiler.bundle.memory_estimate import needs
    from starling.engine.batch_parts import part_size
    from starling.protocol.model.training_bundle import GRADIENT

    names = [name for name, _ in _cases()]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NAME", help=", ".join(names))
    wanted = parser.parse_args(words).networks or names
    if unknown := sorted({*wanted} - {*names}):
        parser.error(f"no network is called {', '.join(unknown)}")
    tables: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="training-memory-") as folder:
        for name, case in _cases():
            if name not in wanted:
                continue
            model = case.make(np.random.default_rng(SEED))
            bundle = compile_model(model, loss="cross-entropy", train=case.train)
            file = Path(folder) / name
            file.write_bytes(bundle.packed)
            tables[name] = {}
            size = bundle.manifest.example_bytes
            runs = {batch: part_size(batch, size) for batch in case.batches}
            sizes = needs(bundle.files[GRADIENT], tuple(runs.values()))
            for batch, run in runs.items():
                row = {"predicted": round(sizes[run].process / 2**20, 1)}
                row |= {k: _measured(file, batch, k, case.steps) for k in KINDS}
                tables[name][str(batch)] = row
                cells = "  ".join(f"{key} {value:6.1f}" for key, value in row.items())
                sys.stdout.write(f"{name:<14}  batch {batch:<3}  {cells}\n")
                sys.stdout.flush()
    RESULT.parent.mkdir(exist_ok=True)
    document = {"unit": "MiB of resident memory at its peak", "networks": tables}
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _cases() -> Iterator[tuple[str, _Case]]:
    from benchmarks.training.mobilenet import mobilenet_v2
    from benchmarks.training.networks import NETWORKS

    for name, network in NETWORKS.items():
        yield name, _Case(network.make)
    yield "mobilenet", _Case(mobilenet_v2, (), LARGE_BATCHES, LARGE_STEPS)
    head = ("head.*",)
    yield "mobilenet-head", _Case(mobilenet_v2, head, LARGE_BATCHES, LARGE_STEPS)


def _measured(file: Path, batch: int, kind: str, steps: int) -> float:
    words = [sys.executable, "-m", "benchmarks.training_memory", _CHILD, str(file)]
    done = subprocess.run(
        [*words, str(batch), kind, str(steps)],
        check=True,
        capture_output=True,
        text=True,
    )
    return round(float(done.stdout), 1)


def _child(file: Path, batch: int, kind: str, steps: int) -> int:
    from starling.agent import open_trainer

    trainer = open_trainer(file)
    manifest, theta = trainer.manifest, trainer.theta
    x = np.zeros((batch, *manifest.input.shape), manifest.input.dtype)
    y = np.zeros((batch, *manifest.target.shape), manifest.target.dtype)
    # A board tries a model on one record first.
    trainer.gradient_sum(theta, x[:1], y[:1])
    for _ in range(steps):
        if kind in ("plain", "all"):
            trainer.gradient_sum(theta, x, y)
        if kind in ("private", "all"):
            trainer.private_gradient_sum(theta, x, y, 1.0)
        if kind == "all":
            trainer.evaluate(theta, x, y)
    # What `getrusage` says would include the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    sys.stdout.write(f"{int(peak.split()[1]) / 1024}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
