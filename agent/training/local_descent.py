"""Local steps of a board: epochs of an optimiser over its records.

They make an update in mode LOCAL, and a board's own model (`personal_model`).

Letters: `n` records, `d` parameters.

Source: McMahan et al., AISTATS 2017, arXiv:1602.05629, algorithm 1.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.training.learning_rates import learning_rates
from starling.agent.training.optimisers import OPTIMISERS, proximal
from starling.agent.training.training_inputs import Real, Trainer, TrainingInputs
from starling.protocol.errors import NonFinite
from starling.protocol.learning.task import Q24


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def gradient(
    trainer: Trainer,
    theta: Real,
    x: NDArray[Any],
    y: NDArray[Any],
    micro_batch: int,
) -> NDArray[np.float64]:
    """The sum of all records' gradients, (d,) float64; zeros for n = 0.

    Raises:
      EngineError: If the engine cannot run the graph.
    """
    total = np.zeros(theta.size, np.float64)
    for rows in _slices(len(x), micro_batch):
        total += trainer.gradient_sum(theta, x[rows], y[rows])[0]
    return total


def local_steps(
    trainer: Trainer, work: TrainingInputs, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Pledge times the way from `theta` that local epochs went, reversed, (d,).

    Raises:
      EngineError: If the engine cannot run the graph.
      NonFinite: If training diverges.
    """
    training = work.order.training
    pull_q24 = training.descent.prox_q24
    moved = _descended(trainer, work, work.theta, training.epochs, pull_q24, rng)
    # Of two nearly equal float32 numbers: in float32 the difference would have few
    # digits.
    way = work.theta.astype(np.float64) - moved
    return np.asarray(work.order.pledge * way, np.float64)


def personal_steps(
    trainer: Trainer, work: TrainingInputs, own: Real, rng: np.random.Generator
) -> Real:
    """A board's own model after more epochs, drawn back to the version `theta`.

    Nothing that is sent depends on the result, so that it costs no budget; it follows
    from exact gradients, so that no epsilon covers it either.

    Args:
      trainer: The bundle.
      work: With the version in `theta`, and the pull in the order.
      own: (d,) float32, the model as it was.
      rng: For the order of batches.

    Returns:
      (d,) float32.

    Raises:
      EngineError: If the engine cannot run the graph.
      NonFinite: If training diverges.

    Source: Li et al., ICML 2021, arXiv:2012.04221, algorithm 1 (Ditto).
    """
    policy = work.order.personal
    return _descended(trainer, work, own, policy.epochs, policy.pull_q24, rng)


def _descended(
    trainer: Trainer,
    work: TrainingInputs,
    start: Real,
    epochs: int,
    pull_q24: int,
    rng: np.random.Generator,
) -> Real:
    """Parameters after epochs from `start` that are drawn back to `work.theta`."""
    x, y, order = work.x, work.y, work.order
    policy = order.training.descent
    optimiser = OPTIMISERS[policy.optimiser](policy)
    usable = np.setdiff1d(np.arange(len(x)), list(work.skipped))
    size = order.training.batch * policy.accumulation
    steps = epochs * -(-len(usable) // size)
    rate = learning_rates(policy, order.training.learning_rate_q24 / Q24, steps)
    # What is computed at once stays one batch, however many make a step.
    together = min(work.micro_batch, order.training.batch)
    state, moved = optimiser.init(start.size), start
    for _ in range(epochs):
        shuffled = rng.permutation(usable)
        for rows in _slices(len(usable), size):
            chosen = shuffled[rows]
            total = _batch_gradient(trainer, moved, x[chosen], y[chosen], together)
            total /= np.float32(len(chosen))
            slope = proximal(total, moved, work.theta, pull_q24)
            state, moved = optimiser.apply(state, slope, moved, rate(state.steps))
    # One look at the end suffices: what is not finite stays so through every optimiser.
    if not np.isfinite(moved).all():
        raise NonFinite("local training diverged")
    return moved


def _batch_gradient(
    trainer: Trainer,
    theta: Real,
    x: NDArray[Any],
    y: NDArray[Any],
    micro_batch: int,
) -> Real:
    if len(x) <= micro_batch:
        return trainer.gradient_sum(theta, x, y)[0]
    return gradient(trainer, theta, x, y, micro_batch).astype(np.float32)
