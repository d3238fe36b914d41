"""What protects an update: clipped sums of records, clipped updates, noise on them.

`clipped_sum` and `sampled_sum` add up per-example gradients in micro-batches of one
fixed shape, so that a record that is taken away moves the sum by a bounded amount only;
`private_sum` rounds the result to a fine grid once and adds a discrete Gaussian there.
`private_update` does so with a whole update that was clipped in L2, and
`private_update_laplace` with one that was clipped in L1 and discrete Laplace noise.

Letters: `d` parameters, `n` records, `b` records in a micro-batch.

Source: Canonne, Kamath, Steinke 2020, arXiv:2004.00010 (mechanisms); docs/privacy.md
(sensitivity).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.sampler import discrete_gaussian, discrete_laplace
from protocol.errors import NonFinite, NormExceeded
from protocol.noise import MICRO_BATCH_MAX, NoiseGrid, laplace_grid, noise_grid
from protocol.task import MICRO, Q24
from protocol.vectors import Draw, GridVector

Step = Callable[
    [NDArray[Any], NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.float32]]
]
"""Runs the private gradient on `x (b, ...)`, `y (b, ...)`: the sum of the clipped
per-example gradients `(d,) float32` and the norms before clipping `(b,) float32`."""

LANES_MAX = 8
"""Rows of a micro-batch of a Poisson sample."""
GROUP = 512
"""Records that share lanes, so that float32 sums stay within their margin."""
_STEPS_MAX = 2.0**61
_INSIDE = 1 - 2.0**-30

Slots = NDArray[np.int64]
"""(b,) the records of a micro-batch by number; -1 is an empty slot."""


def clipped_sum(
    step: Step, x: NDArray[Any], y: NDArray[Any], micro_batch: int
) -> NDArray[np.float64]:
    """The sum of clipped per-example gradients, one slot of one micro-batch a record.

    Empty slots of the last micro-batch are filled with an all-zero record, whose
    gradient, known from a micro-batch of nothing else, is taken off again. A record
    with a non-finite gradient counts as an empty slot.

    Args:
      step: The private gradient at the current theta and clip.
      x: (n, ...) records; a record's position decides its slot.
      y: (n, ...) labels.
      micro_batch: b, in [1, 64]; every call of `step` has that many rows.

    Returns:
      (d,) float64; zeros for n = 0.

    Raises:
      NonFinite: If the model itself gives no finite gradient: nothing to do with data.
    """
    assert 1 <= micro_batch <= MICRO_BATCH_MAX, micro_batch
    assert len(x) == len(y)
    slots = np.full(-(-len(x) // micro_batch) * micro_batch, -1, np.int64)
    slots[: len(x)] = np.arange(len(x))
    return _slot_sum(step, x, y, micro_batch, slots.reshape(-1, micro_batch))


def sampled_sum(
    step: Step,
    x: NDArray[Any],
    y: NDArray[Any],
    chosen: NDArray[np.int64],
    micro_batch: int,
) -> NDArray[np.float64]:
    """The sum of clipped gradients of some records; cheaper than slots for all of them.

    A record keeps its row (its lane) whoever else is chosen; those of one lane follow
    each other in micro-batches. Taking one away thus changes no other record's part,
    only the rounding of the sums of its group.

    Args:
      step: The private gradient at the current theta and clip.
      x: (n, ...) records.
      y: (n, ...) labels.
      chosen: (m,) numbers of records, rising.
      micro_batch: b, in [1, 64]; at most `LANES_MAX` rows are used.

    Returns:
      (d,) float64; zeros if nothing is chosen.

    Raises:
      NonFinite: As `clipped_sum`.
    """
    assert 1 <= micro_batch <= MICRO_BATCH_MAX, micro_batch
    lanes = min(micro_batch, LANES_MAX)
    return _slot_sum(step, x, y, lanes, _lanes(chosen, lanes))


def _lanes(chosen: NDArray[np.int64], lanes: int) -> Iterator[Slots]:
    """Micro-batches in which record i stands in row `i % lanes`, group by group."""
    for group in np.unique(chosen // GROUP):
        members = chosen[chosen // GROUP == group]
        queues = [members[members % lanes == row] for row in range(lanes)]
        for place in range(max(queue.size for queue in queues)):
            heads = [q[place] if place < q.size else -1 for q in queues]
            yield np.array(heads, np.int64)


def draw_sample(count: int, sampling_micro: int, draw: Draw) -> NDArray[np.int64]:
    """A Poisson sample: each record independently, never likelier than its rate.

    Args:
      count: n.
      sampling_micro: Rate in units of 10^-6; 10^6 takes all.
      draw: Cryptographically secure random bytes, 8 per record.

    Returns:
      (m,) int64, rising.
    """
    if sampling_micro >= MICRO:
        return np.arange(count)
    words = np.frombuffer(draw(8 * count), "<u8")
    return np.flatnonzero(words < np.uint64((sampling_micro << 64) // MICRO))


def _slot_sum(
    step: Step,
    x: NDArray[Any],
    y: NDArray[Any],
    micro_batch: int,
    batches: Iterable[Slots],
) -> NDArray[np.float64]:
    """Sums micro-batches; what their empty slots add is known and taken off again."""
    pad_x = np.zeros((micro_batch, *x.shape[1:]), x.dtype)
    pad_y = np.zeros((micro_batch, *y.shape[1:]), y.dtype)
    pad_sum, _ = step(pad_x, pad_y)
    pad = np.asarray(pad_sum, np.float64) / micro_batch
    if not np.isfinite(pad).all():
        raise NonFinite("the model has no finite gradient at an all-zero record")
    total = np.zeros_like(pad)
    for slots in batches:
        filled = slots >= 0
        slots_x, slots_y = pad_x.copy(), pad_y.copy()
        slots_x[filled], slots_y[filled] = x[slots[filled]], y[slots[filled]]
        gradient, norms = step(slots_x, slots_y)
        unusable = ~np.isfinite(norms) & filled
        if unusable.any():
            slots_x[unusable], slots_y[unusable] = pad_x[0], pad_y[0]
            gradient, _ = step(slots_x, slots_y)
        total += np.asarray(gradient, np.float64) - (~filled | unusable).sum() * pad
    return total


def private_sum(
    clipped: NDArray[np.float64], clip_q24: int, sigma_micro: int, draw: Draw
) -> GridVector:
    """Rounds a clipped sum to the grid and adds its noise.

    The charge for it must be on disk before this is called.

    Args:
      clipped: (d,) float64 from `clipped_sum`.
      clip_q24: The clip of each record's gradient in units of 2^-24.
      sigma_micro: Noise multiplier in units of 10^-6.
      draw: Cryptographically secure random bytes.

    Returns:
      (d,) int64 with the grid's exponent.

    Raises:
      ConfigError: If clip, sigma or d are out of bounds.
      NonFinite: If the sum holds a NaN or an infinity.
      NormExceeded: If a coordinate is beyond any sum of clipped gradients.
    """
    grid = noise_grid(clip_q24, sigma_micro, clipped.size)
    if not np.isfinite(clipped).all():
        raise NonFinite("the clipped sum holds a NaN or an infinity")
    noise = discrete_gaussian(grid.scale, clipped.size, draw)
    return GridVector(_on_grid(clipped, grid) + noise, grid.exponent)


def private_update(
    update: NDArray[np.float64], clip_q24: int, sigma_micro: int, draw: Draw
) -> GridVector:
    """Clips a whole update to a norm and adds its noise.

    Any other data moves it by twice the clip at most, and that is what noise is for. An
    update that is not finite counts as zero, so that nothing shows that it was not.

    Args:
      update: (d,) float64.
      clip_q24: Its largest L2 norm in units of 2^-24.
      sigma_micro: Noise deviation over twice the clip, in units of 10^-6.
      draw: Cryptographically secure random bytes.

    Raises:
      ConfigError: If clip, sigma or d are out of bounds.
    """
    clipped = _clipped(update, float(np.linalg.norm(update)), clip_q24)
    return private_sum(clipped, 2 * clip_q24, sigma_micro, draw)


def private_update_laplace(
    update: NDArray[np.float64], clip_q24: int, sigma_micro: int, draw: Draw
) -> GridVector:
    """As `private_update`, with the L1 norm and discrete Laplace noise.

    Raises:
      ConfigError: If clip, sigma or d are out of bounds.
    """
    clipped = _clipped(update, float(np.abs(update).sum()), clip_q24)
    grid = laplace_grid(2 * clip_q24, sigma_micro, update.size)
    noise = discrete_laplace(grid.scale, update.size, draw)
    return GridVector(_on_grid(clipped, grid) + noise, grid.exponent)


def _clipped(
    update: NDArray[np.float64], norm: float, clip_q24: int
) -> NDArray[np.float64]:
    if not math.isfinite(norm):
        return np.zeros_like(update)
    clip = clip_q24 / Q24
    return update if norm <= clip * _INSIDE else update * (clip * _INSIDE / norm)


def _on_grid(clipped: NDArray[np.float64], grid: NoiseGrid) -> NDArray[np.int64]:
    steps = np.rint(np.ldexp(clipped, -grid.exponent))
    if np.abs(steps).max() >= _STEPS_MAX:
        raise NormExceeded("the clipped sum does not fit the grid")
    return steps.astype(np.int64)
