"""Parameters and records that a job of the trainer names by path."""

from pathlib import Path

import numpy as np

from starling.agent.privacy.error_redaction import described
from starling.agent.trainer.dataset import BoardDataSet, no_records, read_dataset
from starling.agent.trainer.personal_layers_file import with_head
from starling.agent.training.trainer_messages import (
    NO_DATA,
    TrainerJob,
    TrainerLimits,
    TrainingOrder,
)
from starling.agent.training.training_inputs import Real, Trainer
from starling.durable.files import read_limited
from starling.protocol.errors import EngineError

DATA_SHARE = 4
"""What part of the memory limit is the data set's: one of so many."""


def theta_of(job: TrainerJob, trainer: Trainer, order: TrainingOrder) -> Real:
    """The version's parameters, with the board's own in their places.

    Returns:
      (d,) float32.

    Raises:
      EngineError: If they are not as many as the bundle's.
      StorageError: If they cannot be read.
    """
    # The size is the order's, as the chain has it: a longer file is no model of this
    # task.
    content = read_limited(Path(job.theta_path), 4 * order.dimension)
    theta = np.frombuffer(content, "<f4").astype(np.float32)
    if theta.size != trainer.manifest.dimension:
        raise EngineError(f"{theta.size} parameters for {trainer.manifest.dimension}")
    if not job.head_path:
        return theta
    return with_head(Path(job.head_path), theta, trainer.manifest)


def data_of(job: TrainerJob, trainer: Trainer) -> tuple[BoardDataSet, str]:
    """Training data, and a complaint; no records where they cannot be read."""
    manifest = trainer.manifest
    if not job.data_path:
        return no_records(manifest), ""
    try:
        most = data_bytes_max(job.limits)
        return read_dataset(Path(job.data_path), manifest, job.label, most), ""
    except Exception as error:  # noqa: BLE001 - no content of a data set may stop a board
        # An update that fails to come would tell of the data; noise alone tells
        # nothing.
        return no_records(manifest), f"{NO_DATA}{described(error)}"


def data_bytes_max(limits: TrainerLimits) -> int:
    """Limit of memory for reading the data set; 0 for no limit."""
    return (limits.memory_mb << 20) // DATA_SHARE
