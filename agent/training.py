"""What a board computes from a model and its data, whatever engine runs the graphs.

A task in GRADIENT mode gets the sum of the records' gradients, clipped and noised under
`record-gaussian`; in LOCAL mode the way that epochs of SGD went, times the pledge, so
that the server's sum over sum of pledges is federated averaging. `record-dpsgd` noises
every local step (`agent.stepping`), device-level mechanisms clip and noise the whole
update of either mode. `ready` is called once, before the first random number that
protects anything, and after all that can fail for the model's sake.

Letters: `n` records, `d` parameters.

Source: McMahan et al., AISTATS 2017, arXiv:1602.05629, algorithm 1 (LOCAL).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agent import mechanism, personal
from agent.optimiser import OPTIMISERS, proximal
from agent.orders import TrainingOrder
from agent.schedule import learning_rates
from agent.stepping import noised_steps
from agent.work import Real, Work
from protocol.bundle import Manifest
from protocol.clipping import GRAPH_DIMENSION_MAX
from protocol.descent import PLAIN
from protocol.errors import ConfigError, NonFinite, NormExceeded, OperationError
from protocol.mechanisms import (
    DEVICE_LAPLACE,
    NONE,
    RECORD_DPSGD,
    RECORD_GAUSSIAN,
    check_mode,
)
from protocol.noise import MICRO_BATCH_MAX
from protocol.parameters import local_slices
from protocol.task import Q24, TrainingMode
from protocol.vectors import (
    CODECS,
    SCALE_BITS,
    VALUE_BITS,
    Draw,
    GridVector,
    to_grid,
)


class EngineError(OperationError):
    """The engine cannot load or run a graph."""


class Trainer(Protocol):
    """A loaded bundle: its graphs as functions.

    Arrays: `theta (d,) float32`, `x (n, *input)`, `y (n, *target)` as the bundle's
    manifest says, after its pre-processing. What is returned is the caller's to keep
    and to change; a step is fastest where theta is the same array as before.
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
    work: Work,
    ready: Callable[[], None],
    draw: Draw,
    rng: np.random.Generator,
    keep: Callable[[Real], None] | None = None,
) -> bytes:
    """Computes and encodes one update.

    Args:
      trainer: The bundle.
      work: What to train on; the first `order.pledge` records count.
      ready: Called once, when everything but noise is done; it returns when the charge
        is on disk, and does not return otherwise.
      draw: Cryptographically secure random bytes, for noise and rounding.
      rng: For the order of local batches.
      keep: Called with the parameters that stay on the board, (k,) float32, as they
        are after this update; not called where a bundle has none.

    Returns:
      The vector as the task's codec encodes it, zero where parameters are local.

    Raises:
      EngineError: If the engine cannot run a graph.
      NonFinite, NormExceeded: If the result fits no update.
      OperationError: If the task asks for what this board does not know.
    """
    order = work.order
    if order.codec not in CODECS:
        raise OperationError(f"vector codec {order.codec} is not known here")
    pledged = slice(order.pledge)
    work = replace(work, x=work.x[pledged], y=work.y[pledged])
    vector = _vector(trainer, work, ready, draw, rng)
    if places := local_slices(trainer.manifest.parameters):
        if keep is not None:
            keep(personal.moved(work.theta, vector, order, places))
        vector = personal.shared_part(vector, places)
    return CODECS[order.codec].encode(vector, draw)


def _vector(
    trainer: Trainer,
    work: Work,
    ready: Callable[[], None],
    draw: Draw,
    rng: np.random.Generator,
) -> GridVector:
    order = work.order
    mode, number = order.training.mode, order.privacy.mechanism
    try:
        check_mode(number, mode)
    except ConfigError as error:
        raise OperationError(f"not known here: {error}") from error
    noise = (order.privacy.clip_q24, order.privacy.sigma_micro, draw)
    if number == RECORD_GAUSSIAN:
        clipped = private_gradient(trainer, work)
        ready()
        return mechanism.private_sum(clipped, *noise)
    if number == RECORD_DPSGD:
        if order.training.descent != PLAIN:
            raise OperationError("noised steps with an optimiser are not known here")
        step_at = _private_steps(trainer, order)
        return noised_steps(step_at, work, ready, draw)
    if number == NONE:
        exact = _plain_update(trainer, work, rng)
        grid = GridVector(to_grid(exact), -SCALE_BITS)
        ready()
        return grid
    update = _whole_update(trainer, work, rng)
    ready()
    if number == DEVICE_LAPLACE:
        return _times(mechanism.private_update_laplace(update, *noise), order.pledge)
    return _times(mechanism.private_update(update, *noise), order.pledge)


def _plain_update(
    trainer: Trainer, work: Work, rng: np.random.Generator
) -> NDArray[np.float64]:
    if work.order.training.mode == TrainingMode.LOCAL:
        return local_steps(trainer, work, rng)
    return gradient(trainer, work.theta, work.x, work.y, work.micro_batch)


def _whole_update(
    trainer: Trainer, work: Work, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The update of one record's weight; zeros where the data let training diverge."""
    try:
        exact = _plain_update(trainer, work, rng)
    except NonFinite:
        return np.zeros(work.theta.size, np.float64)
    return exact / work.order.pledge


def _times(vector: GridVector, pledge: int) -> GridVector:
    if int(np.abs(vector.values).max()) >= (1 << VALUE_BITS) // pledge:
        raise NormExceeded("the noised update does not fit the grid")
    return GridVector(vector.values * pledge, vector.exponent)


def _private_steps(
    trainer: Trainer, order: TrainingOrder
) -> Callable[[Real], mechanism.Step]:
    """The private gradient as a function of records, for any parameters."""
    if order.dimension > GRAPH_DIMENSION_MAX:
        most = f"{GRAPH_DIMENSION_MAX} parameters"
        raise OperationError(f"no graph clips records exactly enough above {most}")
    clip = order.privacy.clip_q24 / Q24

    def step_at(theta: Real) -> mechanism.Step:
        def step(rows: NDArray[Any], targets: NDArray[Any]) -> tuple[Real, Real]:
            return trainer.private_gradient_sum(theta, rows, targets, clip)

        return step

    return step_at


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


def private_gradient(trainer: Trainer, work: Work) -> NDArray[np.float64]:
    """The sum of all records' clipped gradients, (d,) float64; not yet protected.

    Raises:
      EngineError: If the engine cannot run the graph.
      NonFinite: If the model has no finite gradient at an all-zero record.
    """
    step = _private_steps(trainer, work.order)(work.theta)
    together = min(work.micro_batch, MICRO_BATCH_MAX)
    return mechanism.clipped_sum(step, work.x, work.y, together)


def local_steps(
    trainer: Trainer, work: Work, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Pledge times the way from `theta` that local epochs went, reversed, (d,).

    Raises:
      EngineError: If the engine cannot run the graph.
      NonFinite: If training diverges.
    """
    x, y, theta, order = work.x, work.y, work.theta, work.order
    policy = order.training.descent
    optimiser = OPTIMISERS[policy.optimiser](policy)
    size = order.training.batch * policy.accumulation
    steps = order.training.epochs * -(-len(x) // size)
    rate = learning_rates(policy, order.training.learning_rate_q24 / Q24, steps)
    # What is computed at once stays one batch, however many make a step.
    together = min(work.micro_batch, order.training.batch)
    state, moved = optimiser.init(theta.size), theta
    for _ in range(order.training.epochs):
        shuffled = rng.permutation(len(x))
        for rows in _slices(len(x), size):
            chosen = shuffled[rows]
            total = _batch_gradient(trainer, moved, x[chosen], y[chosen], together)
            total /= np.float32(len(chosen))
            slope = proximal(total, moved, theta, policy)
            state, moved = optimiser.apply(state, slope, moved, rate(state.steps))
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
