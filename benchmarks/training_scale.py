"""How the time and memory of a step grow with the batch and with the network.

`python -m benchmarks.training_scale` prints both tables, writes
benchmarks/results/training_scale.json and draws docs/images/training_scale.png. Time is
the processor's on one thread, the best of several medians, so that waiting for a busy
machine does not count; memory is what the compiler predicts for a process. The network
is `sensor` of `training.networks`, with its channels times a factor.
"""

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from benchmarks.harness.result_file import keep
from benchmarks.training.networks import sensor_model
from benchmarks.training_step import Step, turn
from starling.agent import open_trainer
from starling.compiler import compile_model
from starling.compiler.bundle.memory_estimate import need
from starling.protocol.model.training_bundle import GRADIENT, PRIVATE_GRADIENT

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
WIDTHS = (1, 2, 3, 4, 6, 8)
BATCH = 16
TURNS = 9
SEED = 1
ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "training_scale.png"
Point = dict[str, float]


def measure(width: int, batch: int) -> Point:
    """Milliseconds and MiB of both graphs for one width and batch."""
    rng = np.random.default_rng(SEED)
    bundle = compile_model(sensor_model(rng, width), loss="cross-entropy")
    trainer = open_trainer(bundle.packed)
    theta = trainer.theta
    x = rng.random((batch, 9, 128), np.float32)
    y = rng.integers(0, 6, batch)
    steps: dict[str, Step] = {
        GRADIENT: lambda: trainer.gradient_sum(theta, x, y),
        PRIVATE_GRADIENT: lambda: trainer.private_gradient_sum(theta, x, y, 1.0),
    }
    point: Point = {"parameters": bundle.manifest.dimension}
    for file, step in steps.items():
        stem = file.removesuffix(".onnx")
        point[f"{stem}_ms"] = 1000 * min(turn(step) for _ in range(TURNS))
        point[f"{stem}_mib"] = need(bundle.files[file], batch).process / 2**20
    return point


def main() -> int:
    """Measures, prints, writes and draws."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    by_batch = {batch: measure(1, batch) for batch in BATCHES}
    by_width = {width: measure(width, BATCH) for width in WIDTHS}
    for name, points in (("batch", by_batch), ("width", by_width)):
        for key, point in points.items():
            cells = "  ".join(f"{k} {v:,.2f}" for k, v in point.items())
            sys.stdout.write(f"{name} {key:>4}  {cells}\n")
    document = {"batch": by_batch, "width": by_width}
    keep("training_scale", document)
    _draw(by_batch, {point["parameters"]: point for point in by_width.values()})
    return 0


def _draw(by_batch: dict[int, Point], by_size: dict[float, Point]) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    _lines(axes[0], by_batch, "ms")
    ylabel = "ms of processor a step"
    axes[0].set(xlabel="batch", ylabel=ylabel)
    _lines(axes[1], {size / 1000: point for size, point in by_size.items()}, "ms")
    axes[1].set(
        xlabel=f"thousands of parameters, batch {BATCH}",
        ylabel="ms of processor a step",
    )
    _lines(axes[2], by_batch, "mib")
    axes[2].set(xlabel="batch", ylabel="MiB of a process, predicted")
    axes[0].legend()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def _lines(
    axes: Axes, points: dict[int, Point] | dict[float, Point], unit: str
) -> None:
    keys = list(points)
    for stem, label in (("gradient", "plain"), ("private_gradient", "private")):
        values = [point[f"{stem}_{unit}"] for point in points.values()]
        axes.plot(keys, values, marker="o", label=label)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)


if __name__ == "__main__":
    raise SystemExit(main())
