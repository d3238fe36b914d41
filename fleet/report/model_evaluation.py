"""A model on examples: its loss, its accuracy, and the metrics that fit its targets."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from starling.agent.training.training_inputs import Real, Trainer
from starling.fleet.datasets.partition import Examples
from starling.protocol.learning.metrics import Metrics, measured
from starling.protocol.model.training_bundle import BundleManifest
from starling.records.record_set import AS_IT_STANDS, LABELS
from starling.records.scaling import raw_targets, scaled_inputs, scaled_targets

_BATCH = 500


def score(
    trainer: Trainer, theta: Real, examples: Examples
) -> tuple[float | None, float]:
    """Accuracy, where targets are labels, and mean loss.

    Args:
      trainer: The bundle.
      theta: (d,).
      examples: At least one, as the graphs take them.
    """
    labels = trainer.manifest.loss == LABELS
    correct, loss_sum = 0, 0.0
    for y, losses, output in _batches(trainer, theta, examples):
        if labels:
            correct += int((output.argmax(axis=-1) == y).sum())
        loss_sum += float(losses.sum(dtype=np.float64))
    return correct / examples.y.size if labels else None, loss_sum / len(examples)


def metrics_of(trainer: Trainer, theta: Real, examples: Examples) -> Metrics:
    """The metrics that fit the bundle's loss.

    Args:
      trainer: The bundle.
      theta: (d,).
      examples: At least one, as the graphs take them.

    Returns:
      Those of a regression in the data's own units.

    Raises:
      NonFinite: If the model returns what is no finite number.
    """
    batches = list(_batches(trainer, theta, examples))
    losses = np.concatenate([losses for _, losses, _ in batches])
    outputs = np.concatenate([output for _, _, output in batches])
    table = trainer.manifest.table
    return measured(
        trainer.manifest.loss,
        raw_targets(outputs, table),
        raw_targets(examples.y, table),
        losses,
    )


def predictions(trainer: Trainer, theta: Real, examples: Examples) -> NDArray[np.int64]:
    """The class of each example, (n,).

    Args:
      trainer: The bundle.
      theta: (d,).
      examples: At least one.
    """
    batches = _batches(trainer, theta, examples)
    return np.concatenate([output.argmax(axis=1) for _, _, output in batches])


def as_fed(examples: Examples, manifest: BundleManifest) -> Examples:
    """Examples in the data's own units as the graphs take them."""
    if manifest.preprocessing == AS_IT_STANDS and manifest.table is None:
        return examples
    x = scaled_inputs(examples.x, manifest.preprocessing)
    return Examples(x, scaled_targets(examples.y, manifest.table))


def _batches(
    trainer: Trainer, theta: Real, examples: Examples
) -> Iterator[tuple[NDArray[np.generic], Real, Real]]:
    """Targets, losses and outputs, of so many examples at a time as memory bears."""
    for start in range(0, len(examples), _BATCH):
        y = examples.y[start : start + _BATCH]
        losses, output = trainer.evaluate(theta, examples.x[start : start + _BATCH], y)
        yield y, losses, output
