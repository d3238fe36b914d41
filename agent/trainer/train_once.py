"""One local training without any network: does this model train on this data here?

Nothing leaves the board, so nothing is charged; the figures shown are for its owner.
With a `PrivateTrial` the parameters go the way that a fleet's would under
`record-gaussian`: clipped full-batch gradients with the noise of a real release.
"""

import io
import resource
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from starling.agent.trainer.dataset import BoardDataSet, read_dataset
from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.agent.training.local_descent import local_steps
from starling.agent.training.local_training import prepare, train
from starling.agent.training.trainer_messages import TrainingOrder
from starling.agent.training.training_inputs import Real, Trainer, TrainingInputs
from starling.durable.files import write_atomic
from starling.protocol.errors import ConfigError, NonFinite
from starling.protocol.ids import Digest, TaskId, Version
from starling.protocol.learning.local_optimiser import PLAIN, DescentPolicy
from starling.protocol.learning.task import (
    E12,
    MICRO,
    Q24,
    PrivacyPolicy,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.learning.vector_codecs import CODECS
from starling.protocol.privacy.gaussian_dp import Budget
from starling.protocol.privacy.mechanisms import NONE, RECORD_GAUSSIAN, calibrate

_MICRO_BATCH = 64
_NO_DIGEST = Digest(bytes(32))
_NO_NOISE = PrivacyPolicy(NONE, 0, 0, 0, 0, 1)
_NORMS_OF = 512
"""Records whose gradients are measured, so that an owner can choose a clip by them."""


@dataclass(frozen=True)
class PrivateTrial:
    """Privacy terms of a fleet, tried on one board alone.

    Attributes:
      budget: For all releases together.
      clip: Bound of a record's gradient norm, above 0.
      releases: Noised gradients, each one step; in [1, 1000].
    """

    budget: Budget
    clip: float
    releases: int

    def __post_init__(self) -> None:
        """Refuses what no task could ask for.

        Raises:
          ConfigError: Naming the argument.
        """
        if not 0 < self.clip <= 1 << 14:
            raise ConfigError("must be above 0, at most 16384", key="--clip")
        if not 1 <= self.releases <= 1000:
            raise ConfigError("must be in [1, 1000]", key="--releases")

    def policy(self) -> PrivacyPolicy:
        """The task's policy, with the least noise that keeps within the budget."""
        return PrivacyPolicy(
            mechanism=RECORD_GAUSSIAN,
            clip_q24=round(self.clip * Q24),
            sigma_micro=calibrate(RECORD_GAUSSIAN, self.budget, self.releases),
            epsilon_micro=round(self.budget.epsilon * MICRO),
            delta_e12=round(self.budget.delta * E12),
            releases=self.releases,
        )


@dataclass(frozen=True)
class LocalTrial:
    """Training of one board alone.

    Attributes:
      epochs: In [1, 1000].
      batch: In [1, 65536].
      learning_rate: Above 0, at most 100.
      descent: Optimiser and schedule.
      private: Train as a fleet would under privacy, without epochs and batches.
    """

    epochs: int = 1
    batch: int = 20
    learning_rate: float = 0.1
    descent: DescentPolicy = PLAIN
    private: PrivateTrial | None = None

    def __post_init__(self) -> None:
        """Refuses what is out of bounds.

        Raises:
          ConfigError: Naming the argument.
        """
        _check_bounds("epochs", self.epochs, 1000)
        _check_bounds("batch", self.batch, 65536)
        if not 0 < self.learning_rate <= 100:
            raise ConfigError("must be above 0, at most 100", key="--learning-rate")

    @property
    def passes(self) -> int:
        """Number of times that every record is looked at."""
        return self.epochs if self.private is None else self.private.releases

    def policy(self) -> TrainingPolicy:
        """The task's policy."""
        rate = round(self.learning_rate * Q24)
        if self.private is not None:
            return TrainingPolicy(TrainingMode.GRADIENT, 1, self.batch, rate)
        mode = TrainingMode.LOCAL
        return TrainingPolicy(mode, self.epochs, self.batch, rate, self.descent)


def train_once(
    bundle: Path,
    data: Path,
    trial: LocalTrial,
    *,
    label: str = "",
    threads: int = 1,
    engine: str = "ort",
    out: Path | None = None,
) -> dict[str, Any]:
    """Trains for some epochs, or for some private releases, and measures.

    Args:
      bundle: A bundle's folder or packed file.
      data: Folder of the data set.
      trial: How to train.
      label: Target column of CSV files; empty for the last one.
      threads: In [1, 64].
      engine: One of `agent.trainer.engines.engine_registry.ENGINES`.
      out: Where the trained parameters go, a (d,) float32 .npy file; None for nowhere.

    Returns:
      Mean loss before and after, accuracy where the target is a class, norm of the way
      that the parameters went, seconds, MiB of memory; all of them finite. Of a private
      trial also epsilon, delta, releases, clip, noise multiplier and the median norm of
      the records' gradients.

    Raises:
      ConfigError: If an argument is out of bounds or the data do not fit.
      FederationError: If the bundle cannot be used.
      NonFinite: If training diverges; nothing is written then.
    """
    _check_bounds("threads", threads, 64)
    trainer = open_trainer(bundle, threads, engine)
    found = _records(data, trainer, label)
    loss_before, accuracy_before = _measure(trainer, trainer.theta, found)
    started_s = time.perf_counter()
    theta = _trained(trainer, found, trial)
    seconds = time.perf_counter() - started_s
    loss_after, accuracy_after = _measure(trainer, theta, found)
    if not (np.isfinite([loss_before, loss_after]).all() and np.isfinite(theta).all()):
        detail = f"training diverged: loss {loss_before:.4g}, then {loss_after:.4g}"
        raise _diverged(f"{detail}; lower --learning-rate", found)
    _write(out, theta)
    return {
        "records": len(found.x),
        "unusable": found.complaints.unusable,
        "parameters": trainer.manifest.dimension,
        "loss_before": loss_before,
        "loss_after": loss_after,
        "accuracy_before": accuracy_before,
        "accuracy_after": accuracy_after,
        "norm": float(np.linalg.norm(trainer.theta.astype(np.float64) - theta)),
        "seconds": seconds,
        "records_per_s": len(found.x) * trial.passes / seconds,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **({} if trial.private is None else _price(trainer, found, trial.private)),
    }


def _trained(trainer: Trainer, data: BoardDataSet, trial: LocalTrial) -> Real:
    """The parameters after the trial, (d,)."""
    training = trial.policy()
    if trial.private is not None:
        return _trained_privately(trainer, data, training, trial.private)
    order = _order(trainer, len(data.x), training, _NO_NOISE)
    work = TrainingInputs(trainer.theta, data.x, data.y, order, _MICRO_BATCH)
    try:
        way = local_steps(trainer, work, np.random.default_rng()) / order.pledge
    except NonFinite as error:
        raise _diverged(str(error), data) from error
    return (trainer.theta - way).astype(np.float32)


def _trained_privately(
    trainer: Trainer, data: BoardDataSet, training: TrainingPolicy, trial: PrivateTrial
) -> Real:
    """The parameters after some noised gradients, (d,), each made as for a fleet."""
    order = _order(trainer, len(data.x), training, trial.policy())
    prepare(trainer, trainer.theta, order)
    theta, rng = trainer.theta.copy(), np.random.default_rng()
    for _ in range(trial.releases):
        # Records one by one, as wherever the bundle's own graph is not trusted to clip.
        work = TrainingInputs(theta, data.x, data.y, order, 1)
        payload = train(trainer, work, secrets.token_bytes, rng)
        total = CODECS[order.codec].decode(payload, theta.size) / Q24
        step = training.learning_rate_q24 / Q24 * total / order.pledge
        theta = (theta - step).astype(np.float32)
    return theta


def _price(trainer: Trainer, data: BoardDataSet, trial: PrivateTrial) -> dict[str, Any]:
    """Privacy cost of the trial and share of clipped records, for the owner alone."""
    norms = [
        float(np.linalg.norm(trainer.gradient_sum(trainer.theta, x, y)[0]))
        for x, y in zip(
            np.split(data.x[:_NORMS_OF], len(data.x[:_NORMS_OF])),
            np.split(data.y[:_NORMS_OF], len(data.y[:_NORMS_OF])),
            strict=True,
        )
    ]
    return {
        "epsilon": trial.budget.epsilon,
        "delta": trial.budget.delta,
        "releases": trial.releases,
        "clip": trial.clip,
        "noise_multiplier": trial.policy().sigma_micro / MICRO,
        "gradient_norm_median": float(np.median(norms)),
    }


def _diverged(detail: str, data: BoardDataSet) -> NonFinite:
    """The refusal of a result that is no number; names the largest value there is."""
    sizes = np.abs(data.x.reshape(len(data.x), -1)).max(axis=1)
    record = int(sizes.argmax())
    where = f"record {record + 1} of {len(data.x)} holds {sizes[record]:.4g}"
    return NonFinite(f"{detail}, or scale the data: {where}")


def _check_bounds(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ConfigError(f"must be in [1, {most}]", key=f"--{name}")


def _records(folder: Path, trainer: Trainer, label: str) -> BoardDataSet:
    found = read_dataset(folder, trainer.manifest, label)
    if found.complaints.unclear:
        files = ", ".join(found.complaints.unclear)
        detail = f"{files}: row 1: neither names of columns nor a record of numbers"
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


def _order(
    trainer: Trainer, records: int, training: TrainingPolicy, privacy: PrivacyPolicy
) -> TrainingOrder:
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
) -> tuple[float, float | None]:
    """Mean loss, and accuracy where the target is a class."""
    is_class = trainer.manifest.loss == "cross-entropy"
    losses, hits = 0.0, 0
    for start in range(0, len(data.x), _MICRO_BATCH):
        rows = slice(start, start + _MICRO_BATCH)
        loss, output = trainer.evaluate(theta, data.x[rows], data.y[rows])
        losses += float(loss.sum())
        if is_class:
            hits += int((output.argmax(axis=-1) == data.y[rows]).sum())
    accuracy = hits / data.y.size if is_class else None
    return losses / len(data.x), accuracy


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
