"""What a board computes from a model and its data, whatever engine runs the graphs.

A task in GRADIENT mode gets the sum of the records' gradients, clipped and noised under
the record-level mechanism; in LOCAL mode, without privacy only, the way that epochs of
SGD went, times the pledge, so that the server's sum over sum of pledges is federated
averaging. Every mode calls `ready` when the exact result stands and before the first
random number that protects it.

Letters: `n` records, `d` parameters.

Source: McMahan et al., AISTATS 2017, arXiv:1602.05629, algorithm 1 (LOCAL).
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agent import mechanism
from agent.orders import TrainingOrder
from protocol.bundle import Manifest
from protocol.errors import NonFinite, OperationError
from protocol.mechanisms import NONE, RECORD_GAUSSIAN
from protocol.noise import MICRO_BATCH_MAX
from protocol.task import Q24, TrainingMode
from protocol.vectors import CODECS, SCALE_BITS, Draw, GridVector, to_grid

Real = NDArray[np.float32]


class EngineError(OperationError):
    """The engine cannot load or run a graph."""


class Trainer(Protocol):
    """A loaded bundle: its graphs as functions.

    Arrays: `theta (d,) float32`, `x (n, *input)`, `y (n, *target)` as the bundle's
    manifest says, after its pre-processing.
    """

    @property
    def manifest(self) -> Manifest:
        """What the bundle holds."""

    @property
    def theta(self) -> Real:
        """(d,) float32: the parameters that the bundle came with."""

    def gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, Real]:
        """The sum of the gradients (d,), and each record's loss (n,).

        Raises:
          EngineError: If the engine cannot run it.
        """

    def private_gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any], clip: float
    ) -> tuple[Real, Real]:
        """The sum of gradients of norm at most `clip` (d,), and norms before it (n,).

        Raises:
          EngineError: If the engine cannot run it.
        """

    def evaluate(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, NDArray[Any]]:
        """Each record's loss (n,) and output (n, ...).

        Raises:
          EngineError: If the engine cannot run it.
        """

    def infer(self, theta: Real, x: NDArray[Any]) -> NDArray[Any]:
        """Each record's output (n, ...), without a target.

        Raises:
          EngineError: If the engine cannot run it.
        """


def train(
    trainer: Trainer,
    theta: Real,
    x: NDArray[Any],
    y: NDArray[Any],
    order: TrainingOrder,
    micro_batch: int,
    ready: Callable[[], None],
    draw: Draw,
    rng: np.random.Generator,
) -> bytes:
    """Computes and encodes one update.

    Args:
      trainer: The bundle.
      theta: (d,) float32, the base version's parameters.
      x: (n, *input), the first `order.pledge` of them count.
      y: (n, *target).
      order: What to train.
      micro_batch: Records that are computed together.
      ready: Called once, when everything but noise is done; it returns when the charge
        is on disk, and does not return otherwise.
      draw: Cryptographically secure random bytes, for noise and rounding.
      rng: For the order of local batches.

    Returns:
      The vector as the task's codec encodes it.

    Raises:
      EngineError: If the engine cannot run a graph.
      NonFinite, NormExceeded: If the result fits no update.
      OperationError: If the task asks for what this board does not know.
    """
    if order.codec not in CODECS:
        raise OperationError(f"vector codec {order.codec} is not known here")
    x, y = x[: order.pledge], y[: order.pledge]
    vector = _vector(trainer, theta, x, y, order, micro_batch, ready, draw, rng)
    return CODECS[order.codec].encode(vector, draw)


def _vector(
    trainer: Trainer,
    theta: Real,
    x: NDArray[Any],
    y: NDArray[Any],
    order: TrainingOrder,
    micro_batch: int,
    ready: Callable[[], None],
    draw: Draw,
    rng: np.random.Generator,
) -> GridVector:
    mode, number = order.training.mode, order.privacy.mechanism
    if (mode, number) == (TrainingMode.GRADIENT, RECORD_GAUSSIAN):
        clipped = private_gradient(trainer, theta, x, y, order, micro_batch)
        ready()
        clip_q24, sigma_micro = order.privacy.clip_q24, order.privacy.sigma_micro
        return mechanism.private_sum(clipped, clip_q24, sigma_micro, draw)
    if number != NONE:
        raise OperationError(f"mode {mode} with mechanism {number} is not known here")
    if mode == TrainingMode.LOCAL:
        exact = local_steps(trainer, theta, x, y, order, micro_batch, rng)
    else:
        exact = gradient(trainer, theta, x, y, micro_batch)
    grid = GridVector(to_grid(exact), -SCALE_BITS)
    ready()
    return grid


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


def private_gradient(
    trainer: Trainer,
    theta: Real,
    x: NDArray[Any],
    y: NDArray[Any],
    order: TrainingOrder,
    micro_batch: int,
) -> NDArray[np.float64]:
    """The sum of all records' clipped gradients, (d,) float64; not yet protected.

    Raises:
      EngineError: If the engine cannot run the graph.
      NonFinite: If the model has no finite gradient at an all-zero record.
    """
    clip = order.privacy.clip_q24 / Q24
    size = min(micro_batch, MICRO_BATCH_MAX)

    def step(rows: NDArray[Any], targets: NDArray[Any]) -> tuple[Real, Real]:
        return trainer.private_gradient_sum(theta, rows, targets, clip)

    return mechanism.clipped_sum(step, x, y, size)


def local_steps(
    trainer: Trainer,
    theta: Real,
    x: NDArray[Any],
    y: NDArray[Any],
    order: TrainingOrder,
    micro_batch: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Pledge times the way from `theta` that epochs of SGD went, reversed, (d,).

    Raises:
      EngineError: If the engine cannot run the graph.
      NonFinite: If training diverges.
    """
    rate = order.training.learning_rate_q24 / Q24
    moved = theta.copy()
    for _ in range(order.training.epochs):
        shuffled = rng.permutation(len(x))
        for rows in _slices(len(x), order.training.batch):
            chosen = shuffled[rows]
            step = _batch_gradient(trainer, moved, x[chosen], y[chosen], micro_batch)
            moved -= np.float32(rate / len(chosen)) * step
    if not np.isfinite(moved).all():
        raise NonFinite("local training diverged; lower its learning rate")
    way = theta.astype(np.float64) - moved
    return np.asarray(order.pledge * way, np.float64)


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
