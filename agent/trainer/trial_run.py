"""Trial runs of a model on records of zeros, before any data are read."""

import numpy as np

from starling.agent.training.trainer_messages import TrainerJob
from starling.agent.training.training_inputs import Real, Trainer
from starling.agent.training.trusted_graph_clipping import MICRO_BATCH_MAX
from starling.protocol.errors import EngineError
from starling.protocol.privacy.mechanisms import RECORD_DPSGD, RECORD_GAUSSIAN


def try_out(trainer: Trainer, *, trusted: bool) -> None:
    """Runs each graph that a board trains with once, on a record of zeros."""
    manifest = trainer.manifest
    x = np.zeros((1, *manifest.input.shape), manifest.input.dtype)
    y = np.zeros((1, *manifest.target.shape), manifest.target.dtype)
    # Zeros: nothing that a model does here can depend on the owner's data.
    gradients = [trainer.gradient_sum(trainer.theta, x, y)[0]]
    if trusted:
        gradients += [trainer.private_gradient_sum(trainer.theta, x, y, 1.0)[0]]
    if any(found.shape != (manifest.dimension,) for found in gradients):
        raise EngineError("a gradient has another length than theta")


def try_together(trainer: Trainer, theta: Real, job: TrainerJob) -> None:
    """Runs a graph on as many zero records as it will be given together."""
    order, manifest = job.order, trainer.manifest
    assert order is not None
    count = job.limits.micro_batch
    x = np.zeros((count, *manifest.input.shape), manifest.input.dtype)
    y = np.zeros((count, *manifest.target.shape), manifest.target.dtype)
    if order.privacy.mechanism not in (RECORD_GAUSSIAN, RECORD_DPSGD):
        trainer.gradient_sum(theta, x, y)
    elif job.trusted:
        # As many as the trusted path computes at once: memory that is short shows
        # before anything is paid.
        together = min(count, MICRO_BATCH_MAX)
        trainer.private_gradient_sum(theta, x[:together], y[:together], 1.0)
