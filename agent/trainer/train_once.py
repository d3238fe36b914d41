"""One local training without any network: does this model train on this data here?

Nothing leaves the board, so nothing is charged; the figures shown are for its owner.
"""

import io
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from starling.agent.trainer.dataset import BoardDataSet, read_dataset
from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.agent.training.local_training import Trainer, local_steps
from starling.agent.training.trainer_messages import TrainingOrder
from starling.agent.training.training_inputs import Real, TrainingInputs
from starling.durable.files import write_atomic
from starling.protocol.errors import ConfigError
from starling.protocol.ids import Digest, TaskId, Version
from starling.protocol.learning.local_optimiser import PLAIN, DescentPolicy
from starling.protocol.learning.task import (
    Q24,
    PrivacyPolicy,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.privacy.mechanisms import NONE

_MICRO_BATCH = 64
_NO_DIGEST = Digest(bytes(32))


def train_once(
    bundle: Path,
    data: Path,
    *,
    label: str,
    epochs: int,
    batch: int,
    learning_rate: float,
    threads: int,
    descent: DescentPolicy = PLAIN,
    engine: str = "ort",
    out: Path | None = None,
) -> dict[str, Any]:
    """Trains for some epochs and measures.

    Args:
      bundle: A bundle's folder or packed file.
      data: Folder of the data set.
      label: Target column of CSV files; empty for the last one.
      epochs: In [1, 1000].
      batch: In [1, 65536].
      learning_rate: Above 0, at most 100.
      threads: In [1, 64].
      descent: Optimiser and schedule.
      engine: One of `agent.trainer.engines.engine_registry.ENGINES`.
      out: Where the trained parameters go, a (d,) float32 .npy file; None for nowhere.

    Returns:
      Mean loss before and after, accuracy where the target is a class, norm of the way
      that the parameters went, seconds, MiB of memory.

    Raises:
      ConfigError: If an argument is out of bounds or the data do not fit.
      FederationError: If the bundle cannot be used or training diverges.
    """
    _check_bounds(epochs, batch, threads, learning_rate)
    trainer = open_trainer(bundle, threads, engine)
    found = _records(data, trainer, label)
    rate = round(learning_rate * Q24)
    training = TrainingPolicy(TrainingMode.LOCAL, epochs, batch, rate, descent)
    order = _order(trainer, len(found.x), training)
    work = TrainingInputs(trainer.theta, found.x, found.y, order, _MICRO_BATCH)
    started_s = time.perf_counter()
    way = local_steps(trainer, work, np.random.default_rng()) / order.pledge
    seconds = time.perf_counter() - started_s
    theta = (trainer.theta - way).astype(np.float32)
    _write(out, theta)
    before, after = [_measure(trainer, at, found) for at in (trainer.theta, theta)]
    return {
        "records": len(found.x),
        "unusable": found.complaints.unusable,
        "parameters": trainer.manifest.dimension,
        "loss_before": before["loss"],
        "loss_after": after["loss"],
        "accuracy_before": before["accuracy"],
        "accuracy_after": after["accuracy"],
        "norm": float(np.linalg.norm(way)),
        "seconds": seconds,
        "records_per_s": len(found.x) * epochs / seconds,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _check_bounds(epochs: int, batch: int, threads: int, learning_rate: float) -> None:
    bounds = (
        ("epochs", epochs, 1000),
        ("batch", batch, 65536),
        ("threads", threads, 64),
    )
    for name, value, most in bounds:
        if not 1 <= value <= most:
            raise ConfigError(f"must be in [1, {most}]", key=f"--{name}")
    if not 0 < learning_rate <= 100:
        raise ConfigError("must be above 0, at most 100", key="--learning-rate")


def _records(folder: Path, trainer: Trainer, label: str) -> BoardDataSet:
    found = read_dataset(folder, trainer.manifest, label)
    if found.complaints.unclear:
        places = ", ".join(found.complaints.unclear)
        detail = f"{places}: neither names of columns nor a record of numbers"
        raise ConfigError(detail, file=str(folder))
    if not len(found.x):
        reasons = "; ".join(found.complaints.first)
        raise ConfigError(f"has no usable record: {reasons}", file=str(folder))
    return found


def _write(file: Path | None, theta: Real) -> None:
    if file is None:
        return
    buffer = io.BytesIO()
    np.save(buffer, theta, allow_pickle=False)
    write_atomic(file, buffer.getvalue())


def _order(trainer: Trainer, records: int, training: TrainingPolicy) -> TrainingOrder:
    privacy = PrivacyPolicy(NONE, 0, 0, 0, 0, 1)
    return TrainingOrder(
        TaskId(0),
        Version(0),
        _NO_DIGEST,
        _NO_DIGEST,
        trainer.manifest.dimension,
        0,
        records,
        training,
        privacy,
        1,
    )


def _measure(
    trainer: Trainer, theta: Real, data: BoardDataSet
) -> dict[str, float | None]:
    is_class = trainer.manifest.loss == "cross-entropy"
    losses, hits = 0.0, 0
    for start in range(0, len(data.x), _MICRO_BATCH):
        rows = slice(start, start + _MICRO_BATCH)
        loss, output = trainer.evaluate(theta, data.x[rows], data.y[rows])
        losses += float(loss.sum())
        if is_class:
            hits += int((output.argmax(axis=-1) == data.y[rows]).sum())
    accuracy = hits / data.y.size if is_class else None
    return {"loss": losses / len(data.x), "accuracy": accuracy}


def readable(document: dict[str, Any]) -> str:
    """The figures for a person."""
    lines = [
        f"{key.replace('_', ' '):<16} {_shown(value)}"
        for key, value in document.items()
        if value is not None
    ]
    return "\n".join(lines) + "\n"


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
