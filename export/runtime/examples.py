"""Examples on which an exported model is tried, and what it is worth on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.trainer.dataset import read_dataset
from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.export.provenance import ProvenModel
from starling.protocol.errors import ConfigError
from starling.protocol.learning.metrics import Metrics, measured
from starling.protocol.model.training_bundle import BundleManifest
from starling.records.scaling import raw_targets

BATCH = 512


@dataclass(frozen=True)
class TriedModel:
    """Outputs and metrics of a model on examples.

    Attributes:
      x: (n, *input) as the graphs take it.
      y: (n, *target).
      outputs: (n, *output) float32.
      losses: (n,) float32.
      metrics: Those that fit the loss, in the data's own units.
      complaints: About records that could not be used, a line each.
      unusable: How many those were.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    outputs: NDArray[np.float32]
    losses: NDArray[np.float32]
    metrics: Metrics
    complaints: tuple[str, ...]
    unusable: int

    def document(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            **self.metrics.document(),
            # In float64, as a coordinator sums it: both say the same of one version.
            "loss": float(self.losses.mean(dtype=np.float64)),
            "unusable": self.unusable,
        }


def tried(model: ProvenModel, data: Path, target: str) -> TriedModel:
    """Runs the bundle's `evaluate.onnx` with a version's parameters.

    Args:
      model: Proven.
      data: An .npz or .csv file as a board takes it, or a folder of such files.
      target: Name of the target's column in CSV files; empty for the last one.

    Raises:
      ConfigError: If there is no file, or no usable record in it.
      EngineError: If ONNX Runtime refuses the graph.
      NonFinite: If the model returns what is no finite number.
    """
    manifest = model.opened.manifest
    found = read_dataset(data, manifest, target)
    facts = found.facts()
    if not len(found.x):
        why = facts.complaints[0] if facts.complaints else "it is empty"
        raise ConfigError(f"has no usable record: {why}", file=str(data))
    # By the engine that boards use, so that what is measured is what they get.
    trainer = open_trainer(model.claim.bundle)
    parts = [
        trainer.evaluate(model.theta, found.x[rows], found.y[rows])
        for rows in batches(len(found.x))
    ]
    losses, outputs = [np.concatenate(part) for part in zip(*parts, strict=True)]
    metrics = metrics_of(manifest, outputs, found.y, losses)
    return TriedModel(
        found.x,
        found.y,
        outputs,
        losses,
        metrics,
        facts.complaints,
        facts.unusable,
    )


def metrics_of(
    manifest: BundleManifest,
    outputs: NDArray[np.float32],
    y: NDArray[Any],
    losses: NDArray[np.float32],
) -> Metrics:
    """The metrics that fit the loss; errors in the data's own units.

    Args:
      manifest: The bundle's.
      outputs: (n, *output) as the graphs return them.
      y: (n, *target) as the graphs take them.
      losses: (n,).

    Raises:
      NonFinite: If an output is no finite number.
    """
    table = manifest.table
    wanted = raw_targets(y, table)
    return measured(manifest.loss, raw_targets(outputs, table), wanted, losses)


def batches(count: int) -> list[slice]:
    """Rows of each batch, in order."""
    return [slice(start, start + BATCH) for start in range(0, count, BATCH)]
