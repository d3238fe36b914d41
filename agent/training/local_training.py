"""Local training: an update from a model and the board's data, on any engine.

A task in GRADIENT mode gets the sum of the records' gradients, clipped and noised under
`record-gaussian`; in LOCAL mode the way that epochs of SGD went, times the pledge, so
that the server's sum over sum of pledges is federated averaging. `record-dpsgd` noises
every local step (`agent.training.dp_sgd`), device-level mechanisms clip and noise the
whole update of either mode; `label-response` trains on drawn labels in either mode,
with a loss that knows of the draws, and noises nothing else.

`prepare` finds out, without any data, whether order, model and parameters work here.
Between it and `train` the charge is written. From then on nothing that depends on
records stops anything: what fails is left out, and noise comes all the same.

Letters: `n` records, `d` parameters.

Source: McMahan et al., AISTATS 2017, arXiv:1602.05629, algorithm 1 (LOCAL).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.privacy import noise_mechanisms
from starling.agent.privacy.error_redaction import described
from starling.agent.training import personal_layers
from starling.agent.training.divergence_advice import way_out
from starling.agent.training.dp_sgd import noised_steps
from starling.agent.training.gradient_clipping import (
    Clip,
    Gradient,
    aligned,
    clipped_sum,
)
from starling.agent.training.label_correction import LabelCorrectedTrainer
from starling.agent.training.local_descent import gradient, local_steps
from starling.agent.training.trainer_messages import TrainingOrder
from starling.agent.training.training_inputs import Real, Trainer, TrainingInputs
from starling.agent.training.trusted_graph_clipping import (
    MICRO_BATCH_MAX,
    TRUSTED_SHARE,
    slot_sum,
)
from starling.protocol.errors import (
    ConfigError,
    EngineError,
    NonFinite,
    NormExceeded,
    OperationError,
)
from starling.protocol.learning.local_optimiser import PLAIN
from starling.protocol.learning.task import (
    LABEL_RESPONSE,
    MICRO,
    Q24,
    TrainingMode,
)
from starling.protocol.learning.vector_codecs import (
    CODECS,
    SCALE_BITS,
    VALUE_BITS,
    Draw,
    GridVector,
    to_grid,
)
from starling.protocol.model.label_classes import why_no_labels
from starling.protocol.model.parameter_layout import local_slices
from starling.protocol.model.training_bundle import TensorSpec
from starling.protocol.privacy.clipping_functions import GRAPH_DIMENSION_MAX
from starling.protocol.privacy.mechanisms import (
    DEVICE_LAPLACE,
    DEVICE_LEVEL,
    RECORD_DPSGD,
    RECORD_GAUSSIAN,
    UNNOISED,
    check_mode,
)
from starling.protocol.privacy.noise_grid import SCALE_MAX, laplace_grid, noise_grid


def prepare(
    trainer: Trainer, theta: Real, order: TrainingOrder, *, trusted: bool = False
) -> None:
    """Finds out whether an order can be carried out, on a record of zeros alone.

    Args:
      trainer: The bundle.
      theta: (d,) float32 to train from.
      order: What is to be trained.
      trusted: Whether the bundle's own graph is to clip.

    Raises:
      EngineError, NonFinite: If the model is at fault, or these parameters.
      OperationError: If the task asks for what this board does not know.
    """
    _check_order(order)
    if trusted and order.dimension > GRAPH_DIMENSION_MAX:
        most = f"{GRAPH_DIMENSION_MAX} parameters"
        raise EngineError(f"no graph clips records exactly enough above {most}")
    manifest = trainer.manifest
    x, y = _zero(manifest.input), _zero(manifest.target)
    gradient_of_none, loss = trainer.gradient_sum(theta, x, y)
    if gradient_of_none.shape != (manifest.dimension,) or loss.shape != (1,):
        raise EngineError("a gradient has another length than theta")
    if order.privacy.mechanism == LABEL_RESPONSE and (why := why_no_labels(manifest)):
        raise EngineError(why)
    by_record = order.privacy.mechanism in (RECORD_GAUSSIAN, RECORD_DPSGD)
    # These mechanisms leave out a record without a finite gradient and say nothing: a
    # broken model would be paid for, and noise alone sent.
    if by_record and not np.isfinite(gradient_of_none).all():
        raise NonFinite("the model has no finite gradient at an all-zero record")


def _zero(port: TensorSpec) -> NDArray[Any]:
    return aligned((1, *port.shape), np.dtype(port.dtype))


def _check_order(order: TrainingOrder) -> None:
    privacy = order.privacy
    if order.codec not in CODECS:
        raise OperationError(f"vector codec {order.codec} is not known here")
    try:
        check_mode(privacy.mechanism, order.training.mode)
        if privacy.mechanism in UNNOISED:
            return
        reach = 2 if privacy.mechanism in DEVICE_LEVEL else 1
        laplace = privacy.mechanism == DEVICE_LAPLACE
        grid_of = laplace_grid if laplace else noise_grid
        grid = grid_of(reach * privacy.clip_q24, privacy.sigma_micro, order.dimension)
    except ConfigError as error:
        raise OperationError(f"not known here: {error}") from error
    if grid.scale > SCALE_MAX:
        raise OperationError("not known here: noise of this size")
    if privacy.mechanism == RECORD_DPSGD and order.training.descent != PLAIN:
        raise OperationError("noised steps with an optimiser are not known here")


def train(
    trainer: Trainer,
    work: TrainingInputs,
    draw: Draw,
    rng: np.random.Generator,
    keep: Callable[[Real], None] | None = None,
    tell: Callable[[str], None] = lambda _said: None,
) -> bytes:
    """Computes and encodes one update; its charge is on disk, or there is none.

    Args:
      trainer: The bundle.
      work: What to train on; all records count, and the pledge is the weight.
      draw: Cryptographically secure random bytes, for noise and rounding.
      rng: For the order of local batches.
      keep: Called with the parameters that stay on the board, (k,) float32, as they
        are after this update; not called where a bundle has none.
      tell: Called with what went wrong with records, for their owner alone.

    Returns:
      The vector as the task's codec encodes it, zero where parameters are local.

    Raises:
      EngineError: If the engine cannot run a graph, without noise only.
      NonFinite, NormExceeded: If the result fits no update.
      OperationError: If the task asks for what this board does not know.
    """
    order = work.order
    _check_order(order)
    vector = _vector(trainer, work, draw, rng, tell)
    if places := local_slices(trainer.manifest.parameters):
        if keep is not None:
            # Before these places are zeroed: what stays has to move by the noised
            # vector, and by nothing that is exact.
            keep(personal_layers.moved(work.theta, vector, order, places))
        vector = personal_layers.shared_part(vector, places)
    return CODECS[order.codec].encode(vector, draw)


def _vector(
    trainer: Trainer,
    work: TrainingInputs,
    draw: Draw,
    rng: np.random.Generator,
    tell: Callable[[str], None],
) -> GridVector:
    order = work.order
    number, privacy = order.privacy.mechanism, order.privacy
    if number in UNNOISED:
        if number == LABEL_RESPONSE:
            trainer = _corrected(trainer, work)
        return GridVector(_on_grid(trainer, work, rng), -SCALE_BITS)
    noise = (privacy.clip_q24, privacy.sigma_micro)
    if number == RECORD_GAUSSIAN:
        try:
            total = _record_sum(trainer, work, tell)
        except Exception as error:  # noqa: BLE001 - whatever fails now is paid for: noise goes out all the same
            tell(f"no sum, noise alone was sent: {described(error)}")
            total = np.zeros(work.theta.size, np.int64)
        return noise_mechanisms.private_sum(total, *noise, order.pledge * MICRO, draw)
    if number == RECORD_DPSGD:
        gradient_at = _gradients(trainer)
        kind = trainer.manifest.clipping
        vector, unusable = noised_steps(gradient_at, work, kind, draw)
        _report_unusable(unusable, tell)
        return vector
    update = _whole_update(trainer, work, rng, tell)
    if number == DEVICE_LAPLACE:
        noised = noise_mechanisms.private_update_laplace(update, *noise, draw)
    else:
        noised = noise_mechanisms.private_update(update, *noise, draw)
    return _times(noised, order.pledge)


def _corrected(trainer: Trainer, work: TrainingInputs) -> Trainer:
    """The bundle with the loss of drawn labels.

    Raises:
      OperationError: If the labels are not drawn ones.
    """
    if not work.answered:
        raise OperationError("a task that has labels drawn was given exact ones")
    return LabelCorrectedTrainer(trainer, work.order.privacy.epsilon_micro)


def _record_sum(
    trainer: Trainer, work: TrainingInputs, tell: Callable[[str], None]
) -> NDArray[np.int64]:
    """The sum of all records' clipped gradients, (d,) steps; not yet protected."""
    order = work.order
    privacy, size = order.privacy, work.theta.size
    grid = noise_grid(privacy.clip_q24, privacy.sigma_micro, size)
    if work.trusted:
        return _trusted_sum(trainer, work, grid.exponent)
    clip = Clip(privacy.clip_q24, trainer.manifest.clipping, grid.exponent)
    at = _gradients(trainer)(work.theta)
    found = clipped_sum(at, work, range(len(work.x)), clip)
    _report_unusable(found.unusable, tell)
    return found.total()


def _report_unusable(count: int, tell: Callable[[str], None]) -> None:
    if count:
        tell(f"{count} times a record gave no finite gradient, and counted as none")


def _trusted_sum(
    trainer: Trainer, work: TrainingInputs, exponent: int
) -> NDArray[np.int64]:
    """As `_record_sum`, clipped by the bundle's own graph, in micro-batches."""
    clip = work.order.privacy.clip_q24 / Q24 * TRUSTED_SHARE

    def step(rows: NDArray[Any], targets: NDArray[Any]) -> tuple[Real, Real]:
        return trainer.private_gradient_sum(work.theta, rows, targets, clip)

    together = min(work.micro_batch, MICRO_BATCH_MAX)
    return noise_mechanisms.on_grid(slot_sum(step, work.x, work.y, together), exponent)


def _gradients(trainer: Trainer) -> Callable[[Real], Gradient]:
    """The gradient of one record, for any parameters."""

    def at(theta: Real) -> Gradient:
        def gradient_of(row: NDArray[Any], target: NDArray[Any]) -> Real:
            return trainer.gradient_sum(theta, row, target)[0]

        return gradient_of

    return at


def _on_grid(
    trainer: Trainer, work: TrainingInputs, rng: np.random.Generator
) -> NDArray[np.int64]:
    """An update without noise on the grid, or a refusal that says what to do."""
    try:
        return to_grid(_plain_update(trainer, work, rng))
    except (NonFinite, NormExceeded) as error:
        raise type(error)(f"{error}: {way_out(work.x)}") from error


def _plain_update(
    trainer: Trainer, work: TrainingInputs, rng: np.random.Generator
) -> NDArray[np.float64]:
    if work.order.training.mode == TrainingMode.LOCAL:
        return local_steps(trainer, work, rng)
    return gradient(trainer, work.theta, work.x, work.y, work.micro_batch)


def _whole_update(
    trainer: Trainer,
    work: TrainingInputs,
    rng: np.random.Generator,
    tell: Callable[[str], None],
) -> NDArray[np.float64]:
    """The update of one record's weight; zeros where the data let training fail."""
    try:
        exact = _plain_update(trainer, work, rng)
    except Exception as error:  # noqa: BLE001 - noise is for any two data sets, also for one on which all fails
        tell(f"no update, noise alone was sent: {described(error)}")
        return np.zeros(work.theta.size, np.float64)
    return exact / work.order.pledge


def _times(vector: GridVector, pledge: int) -> GridVector:
    # Checked before multiplying, since int64 wraps round in silence.
    if int(np.abs(vector.values).max()) >= (1 << VALUE_BITS) // pledge:
        raise NormExceeded("the noised update does not fit the grid")
    return GridVector(vector.values * pledge, vector.exponent)
