"""The public facts of a noised update: its grid, its noise, the radius it stays within.

A board adds integer noise on a grid so fine that rounding to it costs next to nothing
(`gamma * sqrt(d) <= 2**-20 * clip`). Grid, charged sensitivity and noise scale follow
from clip, sigma and the number of parameters d alone, so that coordinators know the
noise of every update. All numbers are computed from integers by exact or correctly
rounded operations: every machine gets the same.

Source: docs/privacy.md derives the margins; Birge 2001, Lemma 8.1 (tail of the
noncentral chi-square); Hoeffding 1963, Theorem 2 (rounding noise).
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from starling.protocol.errors import ConfigError
from starling.protocol.learning.codec_terms import BLOCK, CODEC_TERMS
from starling.protocol.privacy.gaussian_dp import MICRO, check_sigma

GRID_BITS = 20
"""The grid's step times sqrt(d) is at most the clip over two to this power."""
CLIP_Q24_MAX = 1 << 40
DIMENSION_MAX = 1 << 26
SCALE_MAX = 1 << 52
"""Largest parameter of Laplace noise in grid steps, so that sums fit 62 bits."""
EXPONENT_MIN = -62
# exp(-22) per tail and three tails: below one false refusal in 10^9 honest updates.
_TAIL = 22.0


@dataclass(frozen=True)
class NoiseGrid:
    """Grid on which noise is added, and the noise's size.

    Attributes:
      exponent: The grid's step is 2**exponent.
      sensitivity: Most that one record moves the sum, as a norm in steps.
      scale: Parameter of the discrete Gaussian in steps, its deviation; at least
        sigma * sensitivity.
    """

    exponent: int
    sensitivity: int
    scale: int

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise of one coordinate, in the update's unit."""
        return math.ldexp(self.scale, self.exponent)


def noise_grid(clip_q24: int, sigma_micro: int, dimension: int) -> NoiseGrid:
    """The grid and the noise of a policy.

    Args:
      clip_q24: Norm of one record's clipped gradient in units of 2^-24; positive.
      sigma_micro: Noise multiplier in units of 10^-6.
      dimension: d, in [1, 2^26].

    Raises:
      ConfigError: If an argument is out of bounds.
    """
    _check_noise(clip_q24, sigma_micro, dimension)
    # Floor of log2(clip^2 / d), which is negative for a small clip of many parameters.
    log_ratio = ((clip_q24**2 << 64) // dimension).bit_length() - 1 - 64
    # Floor division, of a negative number too: towards the finer grid.
    exponent = log_ratio // 2 - 24 - GRID_BITS
    clip_steps = clip_q24 * Fraction(2) ** (-24 - exponent)
    # Half a root for rounding the record, one for rounding two shortened sums, and the
    # rest, by far too much, for how these are computed.
    sensitivity = math.ceil(clip_steps) + 2 * _root_up(dimension)
    return NoiseGrid(exponent, sensitivity, -(-sigma_micro * sensitivity // MICRO))


def laplace_grid(clip_q24: int, sigma_micro: int, dimension: int) -> NoiseGrid:
    """The grid and the noise of a vector of bounded L1 norm.

    Args:
      clip_q24: How far one board's data can move the vector, in units of 2^-24.
      sigma_micro: Scale of the Laplace noise over that, in units of 10^-6.
      dimension: d, in [1, 2^26].

    Returns:
      A grid whose sensitivity and scale are meant in L1: `step * d` is at most the clip
      over 2^20, and noise has probability proportional to exp(-|k| / scale).

    Raises:
      ConfigError: If an argument is out of bounds, or the noise would not fit.
    """
    _check_noise(clip_q24, sigma_micro, dimension)
    log_ratio = ((clip_q24 << 64) // dimension).bit_length() - 1 - 64
    exponent = log_ratio - 24 - GRID_BITS
    clip_steps = clip_q24 * Fraction(2) ** (-24 - exponent)
    # One step for each coordinate, by which rounding moves a vector in L1 at most.
    sensitivity = math.ceil(clip_steps) + dimension
    scale = -(-sigma_micro * sensitivity // MICRO)
    if scale > SCALE_MAX or exponent < EXPONENT_MIN:
        raise ConfigError("noise does not fit the grid", key="sigma_micro")
    return NoiseGrid(exponent, sensitivity, scale)


def norm_radius(
    clip_q24: int,
    sigma_micro: int,
    dimension: int,
    pledge: int,
    codec: int,
) -> int:
    """The norm that an honest decoded update exceeds less than once in 10^9 times.

    Args:
      clip_q24: As `noise_grid`.
      sigma_micro: As `noise_grid`.
      dimension: As `noise_grid`.
      pledge: The sum without noise is at most so many clips long.
      codec: Of `protocol.learning.codec_terms`.

    Returns:
      In units of 2^-24, as `AggregationPolicy.norm_max`.

    Raises:
      ConfigError: If an argument is out of bounds.
    """
    grid = noise_grid(clip_q24, sigma_micro, dimension)
    noised = _gaussian_norm(grid, dimension, float(pledge * clip_q24), 1)
    return _on_wire(noised, dimension, codec)


def sampled_radius(
    clip_q24: int,
    sigma_micro: int,
    dimension: int,
    pledge: int,
    codec: int,
    sampling_micro: int,
    steps: int,
    rate_q24: int,
) -> int:
    """As `norm_radius`, for local steps on Poisson samples, each clipped and noised.

    Args:
      clip_q24: As `noise_grid`.
      sigma_micro: As `noise_grid`.
      dimension: As `noise_grid`.
      pledge: The sum of a step is at most `sampling * pledge` clips long.
      codec: As `norm_radius`.
      sampling_micro: Chance of each record to be drawn, in units of 10^-6.
      steps: How many.
      rate_q24: Step size for the mean over the expected sample, in units of 2^-24.

    Raises:
      ConfigError: If an argument is out of bounds.
    """
    grid = noise_grid(clip_q24, sigma_micro, dimension)
    signal = steps * pledge * sampling_micro / MICRO * clip_q24
    noised = _gaussian_norm(grid, dimension, signal, steps)
    factor = rate_q24 / 2**24 * MICRO / sampling_micro
    return _on_wire(noised * factor, dimension, codec)


def device_radius(
    clip_q24: int, sigma_micro: int, dimension: int, pledge: int, codec: int
) -> int:
    """As `norm_radius`, for a whole update of norm at most the clip, times the pledge.

    Raises:
      ConfigError: If an argument is out of bounds.
    """
    # Twice the clip: another data set of the board may give the opposite vector of full
    # length.
    grid = noise_grid(2 * clip_q24, sigma_micro, dimension)
    noised = _gaussian_norm(grid, dimension, float(clip_q24), 1)
    return _on_wire(noised * pledge, dimension, codec)


def laplace_radius(
    clip_q24: int, sigma_micro: int, dimension: int, pledge: int, codec: int
) -> int:
    """As `device_radius`, for an update of L1 norm at most the clip.

    Raises:
      ConfigError: If an argument is out of bounds.

    Source: Bernstein's inequality for squares that stay below that of the largest,
      `b (ln 2d + t)`; their mean is at most 2 b^2, their variance below 25 b^4.
    """
    grid = laplace_grid(2 * clip_q24, sigma_micro, dimension)
    largest = math.log(2 * dimension) + _TAIL
    spread = math.sqrt(2 * 25 * dimension * _TAIL)
    squares = 2 * dimension + spread + largest**2 * _TAIL / 3
    noised = grid.scale * math.sqrt(squares) + math.sqrt(dimension)
    norm = float(clip_q24) + math.ldexp(noised, grid.exponent + 24)
    return _on_wire(norm * pledge, dimension, codec)


def longest_sum(clip_q24: int, exponent: int, pledge_micro: int) -> int:
    """Largest norm of a clipped sum, in steps of a grid, rounded down.

    Args:
      clip_q24: Norm of one record's clipped gradient in units of 2^-24.
      exponent: The grid's step is 2**exponent.
      pledge_micro: Records that the sum may weigh, in units of 10^-6.
    """
    steps = clip_q24 * Fraction(2) ** (-24 - exponent)
    return math.floor(steps * pledge_micro / MICRO)


def _gaussian_norm(grid: NoiseGrid, dimension: int, signal: float, sums: int) -> float:
    """Norm, in units of 2^-24, that a signal and noise of some sums rarely exceed."""
    to_q24 = math.ldexp(1.0, grid.exponent + 24)
    deviation = grid.scale * to_q24 * math.sqrt(sums)
    offset = (signal / deviation) ** 2
    spread = math.sqrt((dimension + 2 * offset) * _TAIL)
    noised = deviation * math.sqrt(dimension + offset + 2 * spread + 2 * _TAIL)
    # The coupling moves each coordinate by one step, rounding to the grid by half one.
    return noised + 1.5 * sums * math.sqrt(dimension) * to_q24


def _on_wire(noised: float, dimension: int, codec: int) -> int:
    """Norm after rounding to the wire's precision."""
    terms = CODEC_TERMS[codec]
    if terms.rotated:
        widened = noised * terms.stretch
    else:
        # The step of a block is at most twice its largest magnitude over 127.
        step = 2.0 / 127
        tail = math.sqrt(_TAIL / 2)
        squares = step**2 * (BLOCK / 4 + tail * math.sqrt(BLOCK))
        widened = noised * math.sqrt(1 + 2 * tail * step + squares)
    return math.ceil((widened + math.sqrt(dimension)) * (1 + 2.0**-30))


def _check_noise(clip_q24: int, sigma_micro: int, dimension: int) -> None:
    check_sigma(sigma_micro)
    if not 1 <= clip_q24 <= CLIP_Q24_MAX:
        raise ConfigError(f"must be in [1, {CLIP_Q24_MAX}]", key="clip_q24")
    if not 1 <= dimension <= DIMENSION_MAX:
        raise ConfigError(f"must be in [1, {DIMENSION_MAX}]", key="dimension")


def _root_up(number: int) -> int:
    """The square root of a positive integer, rounded up."""
    return math.isqrt(number - 1) + 1
