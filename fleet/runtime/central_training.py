"""Trains the fleet's model on all boards' data together: a simulation's yardstick."""

import numpy as np

from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.agent.training.local_descent import local_steps
from starling.agent.training.trainer_messages import TrainingOrder
from starling.agent.training.training_inputs import TrainingInputs
from starling.fleet.datasets.partition import Examples
from starling.fleet.report.model_evaluation import as_fed, metrics_of, score
from starling.fleet.report.model_metrics import ModelMetrics
from starling.fleet.report.pooled_baseline import PooledBaseline, compared
from starling.fleet.runtime.training_material import TrainingMaterial
from starling.protocol.errors import NonFinite
from starling.protocol.ids import Digest, TaskId, Version
from starling.protocol.learning.local_optimiser import DescentPolicy, OptimiserKind
from starling.protocol.learning.metrics import Metrics
from starling.protocol.learning.task import (
    Q24,
    PrivacyPolicy,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.privacy.mechanisms import NONE

EPOCHS_MAX = 60
PATIENCE = 6
BATCH = 32
_RATE = 0.003
_MICRO_BATCH = 32
_NO_DIGEST = Digest(bytes(32))
_ADAM = DescentPolicy(optimiser=OptimiserKind.ADAM)


def pooled_baseline(
    material: TrainingMaterial, federated: ModelMetrics | None
) -> PooledBaseline | None:
    """The fleet's model, trained with Adam until its held-out loss falls no more.

    The data, the model, its start and the held-out examples are the fleet's own; there
    is no clipping and no noise.

    Args:
      material: What the fleet starts from.
      federated: Of the fleet's newest model; without it nothing can be compared.

    Returns:
      None if either model gives what is no finite number.
    """
    if federated is None:
        return None
    found, epochs = trained_on_all(material)
    return None if found is None else compared(federated.held_out, found, epochs)


def trained_on_all(material: TrainingMaterial) -> tuple[Metrics | None, int]:
    """The model of `pooled_baseline`, on the held-out examples, and its epochs.

    Returns:
      No metrics if it gives what is no finite number.
    """
    trainer = open_trainer(material.bundle)
    manifest = trainer.manifest
    # What boards train on, and not all there is: what they keep aside is not learned
    # here either.
    training = as_fed(_joined(material.boards), manifest)
    held_out = as_fed(material.data.held_out, manifest)
    rng = np.random.default_rng(material.plan.seed)
    theta = best = trainer.theta
    least, epochs = score(trainer, theta, held_out)[1], 0
    try:
        for epoch in range(1, EPOCHS_MAX + 1):
            order = _order(manifest.dimension, len(training))
            work = TrainingInputs(theta, training.x, training.y, order, _MICRO_BATCH)
            theta = (theta - local_steps(trainer, work, rng)).astype(np.float32)
            loss = score(trainer, theta, held_out)[1]
            if loss < least:
                best, least, epochs = theta, loss, epoch
            # The best epoch is kept, so that a late rise costs time alone.
            elif epoch - epochs >= PATIENCE:
                break
        return metrics_of(trainer, best, held_out), epochs
    except NonFinite:
        return None, epochs


def _joined(boards: list[Examples]) -> Examples:
    return Examples(
        np.concatenate([board.x for board in boards]),
        np.concatenate([board.y for board in boards]),
    )


def _order(dimension: int, records: int) -> TrainingOrder:
    training = TrainingPolicy(TrainingMode.LOCAL, 1, BATCH, round(_RATE * Q24), _ADAM)
    return TrainingOrder(
        task=TaskId(0),
        base=Version(0),
        bundle=_NO_DIGEST,
        theta=_NO_DIGEST,
        dimension=dimension,
        codec=0,
        # The way that `local_steps` returns is multiplied by the pledge.
        pledge=1,
        training=training,
        privacy=PrivacyPolicy(NONE, 0, 0, 0, 0, 1),
        windows=1,
    )
