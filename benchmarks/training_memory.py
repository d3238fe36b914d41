"""What memory a training process takes, against what the compiler predicts for it.

`python -m benchmarks.training_memory` prints a table for `training.networks` and writes
benchmarks/results/training_memory.json. Each figure is the peak of resident memory of a
fresh process that trains one batch size with one graph, or with all three as a board's
trainer does.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

BATCHES = (1, 10, 32, 64)
STEPS = 20
SEED = 1
RESULT = Path(__file__).parent / "results" / "training_memory.json"
KINDS = ("plain", "private", "all")


def main() -> int:
    """Prints the table and writes it."""
    if len(sys.argv) > 1:
        return _child(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    # Its imports would count as the child's memory.
    from benchmarks.training.networks import NETWORKS
    from starling.compiler import compile_model
    from starling.compiler.bundle.memory_estimate import need
    from starling.protocol.model.training_bundle import GRADIENT

    tables: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="training-memory-") as folder:
        for name, network in NETWORKS.items():
            model = network.make(np.random.default_rng(SEED))
            bundle = compile_model(model, loss="cross-entropy")
            file = Path(folder) / name
            file.write_bytes(bundle.packed)
            tables[name] = {}
            for batch in BATCHES:
                predicted = need(bundle.files[GRADIENT], batch).process / 2**20
                row = {"predicted": round(predicted, 1)}
                row |= {kind: _measured(file, batch, kind) for kind in KINDS}
                tables[name][str(batch)] = row
                cells = "  ".join(f"{key} {value:6.1f}" for key, value in row.items())
                sys.stdout.write(f"{name:<10}  batch {batch:<3}  {cells}\n")
    RESULT.parent.mkdir(exist_ok=True)
    document = {"unit": "MiB of resident memory at its peak", "networks": tables}
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _measured(file: Path, batch: int, kind: str) -> float:
    words = [sys.executable, "-m", "benchmarks.training_memory", str(file)]
    done = subprocess.run(
        [*words, str(batch), kind], check=True, capture_output=True, text=True
    )
    return round(float(done.stdout), 1)


def _child(file: Path, batch: int, kind: str) -> int:
    from starling.agent import open_trainer

    trainer = open_trainer(file)
    manifest, theta = trainer.manifest, trainer.theta
    x = np.zeros((batch, *manifest.input.shape), manifest.input.dtype)
    y = np.zeros((batch, *manifest.target.shape), manifest.target.dtype)
    for _ in range(STEPS):
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
