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

from protocol.accounting import MICRO, check_sigma
from protocol.errors import ConfigError

GRID_BITS = 20
"""The grid's step times sqrt(d) is at most the clip over two to this power."""
FLOAT_MARGIN = Fraction(1, 1024)
"""What float32 clipping and summing may add to the clip, relative to it."""
MICRO_BATCH_MAX = 64
"""Most records that one float32 sum may hold for `FLOAT_MARGIN` to cover it."""
CLIP_Q24_MAX = 1 << 40
DIMENSION_MAX = 1 << 26
# exp(-22) per tail and three tails: below one false refusal in 10^9 honest updates.
_TAIL = 22.0


@dataclass(frozen=True)
class NoiseGrid:
    """Where noise is added, and how much.

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
    check_sigma(sigma_micro)
    if not 1 <= clip_q24 <= CLIP_Q24_MAX:
        raise ConfigError(f"must be in [1, {CLIP_Q24_MAX}]", key="clip_q24")
    if not 1 <= dimension <= DIMENSION_MAX:
        raise ConfigError(f"must be in [1, {DIMENSION_MAX}]", key="dimension")
    # Floor of log2(clip^2 / d), which is negative for a small clip of many parameters.
    log_ratio = ((clip_q24**2 << 64) // dimension).bit_length() - 1 - 64
    exponent = log_ratio // 2 - 24 - GRID_BITS
    clip_steps = clip_q24 * Fraction(2) ** (-24 - exponent)
    sensitivity = math.ceil(clip_steps * (1 + FLOAT_MARGIN)) + _root_up(dimension)
    return NoiseGrid(exponent, sensitivity, -(-sigma_micro * sensitivity // MICRO))


def norm_radius(
    clip_q24: int,
    sigma_micro: int,
    dimension: int,
    pledge: int,
    block: int = 256,
    levels: int = 127,
) -> int:
    """The norm that an honest decoded update exceeds less than once in 10^9 times.

    Args:
      clip_q24: As `noise_grid`.
      sigma_micro: As `noise_grid`.
      dimension: As `noise_grid`.
      pledge: Most records that the update may have been trained on.
      block: Coordinates that share an exponent on the wire.
      levels: Largest level on the wire; the step of a block is at most twice its
        largest magnitude over this.

    Returns:
      In units of 2^-24, as `AggregationPolicy.norm_max`.

    Raises:
      ConfigError: If an argument is out of bounds.
    """
    grid = noise_grid(clip_q24, sigma_micro, dimension)
    to_q24 = math.ldexp(1.0, grid.exponent + 24)
    root = math.sqrt(dimension)
    deviation = grid.scale * to_q24
    signal = pledge * clip_q24 * (1 + float(FLOAT_MARGIN))
    offset = (signal / deviation) ** 2
    spread = math.sqrt((dimension + 2 * offset) * _TAIL)
    noised = deviation * math.sqrt(dimension + offset + 2 * spread + 2 * _TAIL)
    # The coupling moves each coordinate by one step, rounding to the grid by half one.
    noised += 1.5 * root * to_q24
    step = 2.0 / levels
    tail = math.sqrt(_TAIL / 2)
    squares = step**2 * (block / 4 + tail * math.sqrt(block))
    widened = noised * math.sqrt(1 + 2 * tail * step + squares)
    return math.ceil((widened + root) * (1 + 2.0**-30))


def norm_radius_squared(
    clip_q24: int, sigma_micro: int, dimension: int, pledge: int
) -> int:
    """`norm_radius` squared, in units of 2^-48, as `protocol.vectors.norm_squared`.

    Raises:
      ConfigError: If an argument is out of bounds.
    """
    return norm_radius(clip_q24, sigma_micro, dimension, pledge) ** 2


def _root_up(number: int) -> int:
    """The square root of a positive integer, rounded up."""
    return math.isqrt(number - 1) + 1
