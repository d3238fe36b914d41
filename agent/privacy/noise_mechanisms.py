"""Noise mechanisms: sums kept within a radius, clipped updates, noise on them.

`private_sum` keeps a sum of clipped gradients (`agent.training.gradient_clipping`)
within the radius that the pledge allows and adds a discrete Gaussian on its grid.
`private_update` adds one to a whole update that was clipped in L2, and
`private_update_laplace` discrete Laplace noise to one that was clipped in L1.

Letters: `d` parameters, `n` records.

Source: Canonne, Kamath, Steinke 2020, arXiv:2004.00010 (mechanisms); docs/privacy.md
(sensitivity).
"""

import math

import numpy as np
from numpy.typing import NDArray

from starling.agent.privacy.discrete_samplers import discrete_gaussian, discrete_laplace
from starling.protocol.errors import NormExceeded
from starling.protocol.learning.task import MICRO, Q24
from starling.protocol.learning.vector_codecs import Draw, GridVector
from starling.protocol.privacy.clipping_functions import INSIDE
from starling.protocol.privacy.noise_grid import laplace_grid, longest_sum, noise_grid

_STEPS_MAX = 2.0**61
_LIMB_BITS = 21
_CHUNK = 1 << 20


def draw_sample(count: int, sampling_micro: int, draw: Draw) -> NDArray[np.int64]:
    """A Poisson sample: each record independently, never likelier than its rate.

    Args:
      count: n.
      sampling_micro: Rate in units of 10^-6; 10^6 takes all.
      draw: Cryptographically secure random bytes, 8 per record.

    Returns:
      (m,) int64, rising.
    """
    # A rate of 1 would be the threshold 2^64, which no 64-bit word can hold.
    if sampling_micro >= MICRO:
        return np.arange(count)
    words = np.frombuffer(draw(8 * count), "<u8")
    # The threshold is rounded down: a record that is drawn more often than its rate
    # would be charged too little.
    return np.flatnonzero(words < np.uint64((sampling_micro << 64) // MICRO))


def within(total: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The nearest vector of a norm, rounded to whole steps; the vector if it is short.

    Projection on a ball brings no two vectors further apart; rounding moves each by at
    most `sqrt(d) / 2`, and float64 by less than a thousandth of that.

    Args:
      total: (d,) int64, magnitudes below 2^62.
      most: The norm, in steps; at most 2^54.
    """
    squared = _norm_squared(total)
    # Exact integers decide, since float64 would round the squares of vectors near the
    # radius.
    if squared <= most * most:
        return total
    shorter = total.astype(np.float64) * (most / math.sqrt(squared))
    return np.rint(shorter).astype(np.int64)


def _norm_squared(total: NDArray[np.int64]) -> int:
    """The exact squared norm of (d,) int64, magnitudes below 2^62."""
    mask = (1 << _LIMB_BITS) - 1
    found = 0
    for start in range(0, total.size, _CHUNK):
        part = total[start : start + _CHUNK]
        limbs = [part & mask, (part >> _LIMB_BITS) & mask, part >> 2 * _LIMB_BITS]
        # Products of limbs stay below 2^42, so that 2^20 of them stay inside int64.
        for i, left in enumerate(limbs):
            for j, right in enumerate(limbs):
                found += int(left @ right) << (_LIMB_BITS * (i + j))
    return found


def private_sum(
    total: NDArray[np.int64],
    clip_q24: int,
    sigma_micro: int,
    pledge_micro: int,
    draw: Draw,
) -> GridVector:
    """Keeps a clipped sum within its radius and adds its noise.

    The charge for it must be on disk before the sum is computed.

    Args:
      total: (d,) int64 steps of `noise_grid`, from `agent.training.gradient_clipping`.
      clip_q24: The clip of each record's gradient in units of 2^-24.
      sigma_micro: Noise multiplier in units of 10^-6.
      pledge_micro: How many clips long the sum may be, in units of 10^-6.
      draw: Cryptographically secure random bytes.

    Returns:
      (d,) int64 with the grid's exponent.

    Raises:
      ConfigError: If clip, sigma or d are out of bounds.
    """
    grid = noise_grid(clip_q24, sigma_micro, total.size)
    kept = within(total, longest_sum(clip_q24, grid.exponent, pledge_micro))
    noised = discrete_gaussian(grid.scale, total.size, draw)
    noised += kept
    return GridVector(noised, grid.exponent)


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
    grid = noise_grid(2 * clip_q24, sigma_micro, update.size)
    noised = discrete_gaussian(grid.scale, update.size, draw)
    noised += on_grid(clipped, grid.exponent)
    return GridVector(noised, grid.exponent)


def private_update_laplace(
    update: NDArray[np.float64], clip_q24: int, sigma_micro: int, draw: Draw
) -> GridVector:
    """As `private_update`, with the L1 norm and discrete Laplace noise.

    Raises:
      ConfigError: If clip, sigma or d are out of bounds.
    """
    clipped = _clipped(update, float(np.abs(update).sum()), clip_q24)
    grid = laplace_grid(2 * clip_q24, sigma_micro, update.size)
    noised = discrete_laplace(grid.scale, update.size, draw)
    noised += on_grid(clipped, grid.exponent)
    return GridVector(noised, grid.exponent)


def _clipped(
    update: NDArray[np.float64], norm: float, clip_q24: int
) -> NDArray[np.float64]:
    if not math.isfinite(norm):
        return np.zeros_like(update)
    clip = clip_q24 / Q24
    return update if norm <= clip * INSIDE else update * (clip * INSIDE / norm)


def on_grid(clipped: NDArray[np.float64], exponent: int) -> NDArray[np.int64]:
    """Rounds (d,) finite float64 to steps of 2**exponent.

    Raises:
      NormExceeded: If a coordinate is beyond any sum of clipped gradients.
    """
    steps = np.rint(np.ldexp(clipped, -exponent))
    # Not written as `>=`, to which a NaN would answer False and pass.
    if not np.abs(steps).max() < _STEPS_MAX:
        raise NormExceeded("the clipped sum does not fit the grid")
    return steps.astype(np.int64)
