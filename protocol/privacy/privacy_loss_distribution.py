"""The privacy loss distribution of Poisson-sampled Gaussian sums, with numpy alone.

It gives a smaller epsilon than `protocol.privacy.renyi_dp`, but only for a schedule
that is fixed beforehand: a ledger that lets noise vary must not use it. The loss of one
sum is put on an even grid such that the curve of (epsilon, delta) is met on the grid
and overstated between (connect the dots); many sums are one power in the Fourier
domain, in a window that all but a bounded mass stays within.

Letters: `q` sampling rate, `sigma` noise multiplier, `h` the grid's step, `m` its size.

Source: Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, arXiv:2207.04380 (connect the
dots); Koskela, Jalko, Honkela 2020, arXiv:1906.03049 (Fourier accountant).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from starling.protocol.errors import ConfigError
from starling.protocol.privacy.gaussian_dp import (
    MICRO,
    SLACK_PER_CHARGE,
    check_delta,
    check_sigma,
    gaussian_epsilon,
)
from starling.protocol.privacy.renyi_dp import check_sampling, sampled_divergence

Real = NDArray[np.float64]

DELTA_LEAST = 1e-10
"""Below it the rounding of a Fourier transform would show."""
TOTAL_MAX = 1 << 24
_STEP_MAX = 2e-3
_STEP_PER_DEVIATION = 0.03
# Share of delta that is given away for what stands outside of all windows.
_OUTSIDE = 1e-6
_GRID_MAX = 1 << 22
_LOSS_MAX = 600.0


@dataclass(frozen=True)
class _Losses:
    """Losses of one sum: `mass[i]` at `(first + i) * step`, and `infinite` beyond."""

    first: int
    step: float
    mass: Real
    infinite: float


def sampled_epsilon(
    sigma_micro: int, sampling_micro: int, total: int, delta: float
) -> float:
    """The epsilon of equal Poisson-sampled sums with discrete noise, rounded up.

    Args:
      sigma_micro: Noise multiplier of each sum in units of 10^-6.
      sampling_micro: q in units of 10^-6; 10^6 is answered exactly.
      total: How many sums: steps of a release times releases.
      delta: In [1e-10, 1).

    Returns:
      The larger one for adding and for removing a record.

    Raises:
      ConfigError: If an argument is out of bounds, or the grid would be too large.
    """
    check_sampling(sampling_micro, 1)
    check_sigma(sigma_micro)
    check_delta(delta)
    if delta < DELTA_LEAST:
        raise ConfigError(f"must be at least {DELTA_LEAST:g}", key="delta")
    if not 1 <= total <= TOTAL_MAX:
        raise ConfigError(f"must be in [1, {TOTAL_MAX}]", key="steps")
    sigma, rate = sigma_micro / MICRO, sampling_micro / MICRO
    slack = SLACK_PER_CHARGE * total / sigma**2
    if sampling_micro == MICRO:
        return gaussian_epsilon(math.sqrt(total) / sigma, delta) + slack
    # The divergence of order 2 tells about how wide the losses spread, and so how fine
    # a grid must be.
    deviation = math.sqrt(sampled_divergence(rate, sigma, 2.0))
    step = min(_STEP_MAX, _STEP_PER_DEVIATION * deviation)
    found = [
        _epsilon(_losses(rate, sigma, step, delta / total, removing), total, delta)
        for removing in (True, False)
    ]
    return max(found) + slack


def _losses(
    rate: float, sigma: float, step: float, delta: float, removing: bool
) -> _Losses:
    """One sum's losses; `removing` exchanges what is likely and what is compared."""
    # Noise beyond this has less mass than may be lost.
    reach = sigma * math.sqrt(2 * math.log(4 / (_OUTSIDE * delta)))
    ends = [_loss(rate, sigma, place) for place in (-reach, 1 + reach)]
    low, high = ends if removing else (-ends[1], -ends[0])
    first, last = math.floor(low / step), math.ceil(high / step)
    if last - first > _GRID_MAX or max(-low, high) > _LOSS_MAX:
        raise ConfigError("has losses too large for a table", key="sigma_micro")
    edges: Real = np.arange(first, last + 1, dtype=np.float64) * step
    places = _places(rate, sigma, edges if removing else -edges)
    base, shifted = _tails(places / sigma), _tails((places - 1) / sigma)
    mixed = (1 - rate) * base + rate * shifted
    # Negated for the other direction, where places fall as losses rise: in both cases
    # `_differences` gets tails that fall.
    likely, other = (mixed, base) if removing else (-base, -mixed)
    # Each interval's mass goes to its two ends so that both laws keep their totals.
    here, there = _differences(likely), _differences(other)
    above = (here - there * np.exp(edges[:-1])) / -math.expm1(-step)
    above = np.clip(above, 0.0, here)
    mass = np.zeros(edges.size)
    mass[1:] += above
    mass[:-1] += here - above
    return _Losses(first, step, mass, max(0.0, 1.0 - float(mass.sum())))


def _loss(rate: float, sigma: float, place: float) -> float:
    exponent = (2 * place - 1) / (2 * sigma**2)
    if exponent > 30.0:
        return (
            math.log(rate)
            + exponent
            + math.log1p((1 - rate) / rate * math.exp(-exponent))
        )
    return math.log1p(rate * math.expm1(exponent))


def _places(rate: float, sigma: float, losses: Real) -> Real:
    """Noise value at which each loss occurs; -infinity where none is so small."""
    excess = np.expm1(losses) + rate
    possible = excess > 0
    logs = np.full(losses.size, -np.inf)
    logs[possible] = np.log(excess[possible] / rate)
    return np.asarray(sigma**2 * logs + 0.5, np.float64)


def _tails(places: Real) -> Real:
    """The normal law's mass above each place."""
    root = math.sqrt(0.5)
    return np.array([0.5 * math.erfc(root * place) for place in places.tolist()])


def _differences(tails: Real) -> Real:
    return np.maximum(tails[:-1] - tails[1:], 0.0)


def _epsilon(one: _Losses, total: int, delta: float) -> float:
    """The least epsilon at which `total` sums keep delta."""
    outside = _OUTSIDE * delta
    low, high = _window(one, total, outside)
    start = math.floor(low / one.step) - total * one.first
    size = 1 << max(1, (math.ceil((high - low) / one.step) + 2).bit_length())
    if size > _GRID_MAX:
        raise ConfigError("has losses too large for a table", key="steps")
    # A Fourier transform convolves in a circle: losses are taken modulo its size, and
    # the window says where on it the sum begins.
    folded = np.bincount(np.arange(one.mass.size) % size, one.mass, size)
    summed = np.fft.irfft(np.fft.rfft(folded) ** total, size)
    # Rounding of the transform leaves masses a little below 0.
    mass = np.maximum(np.roll(summed, -(start % size)), 0.0)
    places = np.arange(size, dtype=np.float64) + start + total * one.first
    losses: Real = places * one.step
    infinite = -math.expm1(total * math.log1p(-one.infinite)) + outside
    return _crossing(losses, mass, delta - infinite)


def _window(one: _Losses, total: int, outside: float) -> tuple[float, float]:
    """Range that holds the sum of losses but for a mass of `outside` at either end.

    Source: Chernoff's bound over a grid of exponents.
    """
    losses = one.step * (one.first + np.arange(one.mass.size))
    log_mass = np.log(np.maximum(one.mass, 1e-300))
    rest = -math.log(outside)
    low, high = float(total * losses[0]), float(total * losses[-1])
    for tilt in np.geomspace(1e-2, 1e3, 60):
        for sign in (-1.0, 1.0):
            terms = log_mass + sign * tilt * losses
            most = float(terms.max())
            moment = most + math.log(float(np.exp(terms - most).sum()))
            bound = (total * moment + rest) / tilt
            if sign > 0:
                high = min(high, bound)
            else:
                low = max(low, -bound)
    return low, high


def _crossing(losses: Real, mass: Real, delta: float) -> float:
    """Epsilon at which the losses' curve falls to delta; a line in exp(epsilon)."""
    if delta <= 0.0:
        return math.inf
    positive = losses > 0
    losses, mass = losses[positive], mass[positive]
    above = np.cumsum(mass[::-1])[::-1]
    weighted = np.cumsum((mass * np.exp(-losses))[::-1])[::-1]
    if not losses.size or above[0] - weighted[0] <= delta:
        return 0.0
    # exp overflows beyond 709.
    at_losses = above - np.exp(np.minimum(losses, 700.0)) * weighted
    # The first loss above the crossing; the first of all, if the curve falls to delta
    # between 0 and there. Up to it only what is at it and above counts.
    exceeding = np.flatnonzero(at_losses > delta)
    index = int(exceeding[-1]) + 1 if exceeding.size else 0
    floor = float(losses[index - 1]) if index else 0.0
    if index >= losses.size or above[index] <= delta:
        return floor
    return max(floor, math.log((above[index] - delta) / weighted[index]))
