"""Cost of a noised release: integer charges, and the epsilon that they add up to.

A release of noise multiplier `sigma` (standard deviation over charged sensitivity)
costs `1 / sigma**2`, kept as an integer number of `2**-40`; a board's ledger and the
chain only ever add such integers. By Gaussian differential privacy a total of `Q`
gives `(epsilon, delta)` for every pair on the curve of `mu = sqrt(Q)`, also when each
sigma was chosen after seeing all earlier releases. Discrete noise on a fine grid shifts
that curve by at most `2**-20 * Q` in epsilon (proof: docs/privacy.md). Every rounding
here is towards the larger epsilon.

Source: Balle and Wang 2018, Theorem 8 (the curve); Dong, Roth, Su 2022, Corollary 1
(composition); Smith and Thakurta 2022, arXiv:2210.17520 (adaptive filter); Canonne,
Kamath, Steinke 2020 (discrete Gaussian, zCDP).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from starling.protocol.errors import ConfigError

CHARGE_ONE = 1 << 40
"""Units that stand for a charge of 1, the cost of one release at sigma = 1."""
CHARGE_MAX = (1 << 62) - 1
"""Most units that a ledger adds up: a mu of 2048, far beyond any privacy."""
MICRO = 10**6
"""Noise multipliers travel in units of 10^-6, so that all machines charge alike."""
SIGMA_MICRO_MIN = MICRO // 50
SIGMA_MICRO_MAX = 10**5 * MICRO
SLACK_PER_CHARGE = 2.0**-20
"""Epsilon added per unit of Q for noise on a grid: sqrt(d) * grid / clip at most."""
EPSILON_MAX = 1000.0
DELTA_MIN = 1e-30
RELEASES_MAX = 1 << 20

# Bounds the rounding of the curve's two terms, relative to the first, with room.
_ROUNDING = 2.0**-36
_TINY = 1e-300
_MILLS_SERIES_FROM = 8.0


@dataclass(frozen=True)
class Budget:
    """A privacy guarantee that must hold for everything released together.

    Attributes:
      epsilon: In (0, 1000].
      delta: In [1e-30, 1).
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        """Refuses what is no guarantee.

        Raises:
          ConfigError: Naming the bound.
        """
        # Written so that a NaN is refused too.
        if not 0.0 < self.epsilon <= EPSILON_MAX:
            raise ConfigError(f"must be in (0, {EPSILON_MAX:g}]", key="epsilon")
        check_delta(self.delta)


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The smallest delta of mu-Gaussian differential privacy, rounded up.

    Args:
      epsilon: At least 0.
      mu: At least 0; sensitivity over standard deviation, or the root of a total Q.

    Source: Balle and Wang 2018, Theorem 8, with its second term written by Mills'
      ratio: `exp(epsilon) * Phi(-b) = phi(a) * mills(b)`, which cannot overflow.
    """
    if mu <= 0.0:
        return 0.0
    a = epsilon / mu - mu / 2
    first = 0.5 * math.erfc(a / math.sqrt(2))
    density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
    second = density * _mills(epsilon / mu + mu / 2)
    return min(1.0, max(0.0, first - second) + _ROUNDING * first + _TINY)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon of mu-Gaussian differential privacy, rounded up.

    Args:
      mu: At least 0.
      delta: In [1e-30, 1).

    Returns:
      At least 0; within about 1e-9 of the exact value.

    Raises:
      ConfigError: If delta is out of bounds.
    """
    check_delta(delta)
    # The search below needs a lower end that is not enough.
    if gaussian_delta(0.0, mu) <= delta:
        return 0.0
    low, high = 0.0, zcdp_epsilon(mu * mu / 2, delta) + 1.0
    while high - low > 1e-12 * (1.0 + high):
        middle = (low + high) / 2
        if gaussian_delta(middle, mu) <= delta:
            high = middle
        else:
            low = middle
    return high


def zcdp_epsilon(rho: float, delta: float) -> float:
    """An epsilon of rho-zCDP, for mixtures with mechanisms that have no better curve.

    Args:
      rho: At least 0; a charge of Q is Q / 2.
      delta: In [1e-30, 1).

    Raises:
      ConfigError: If delta is out of bounds.

    Source: Canonne, Kamath, Steinke 2020, Corollary 13, minimised over alpha.
    """
    check_delta(delta)
    if rho <= 0.0:
        return 0.0

    def bound(log_excess: float) -> float:
        excess = math.exp(log_excess)
        order = 1.0 + excess
        cost = rho * order - math.log(delta * order) / excess
        return cost + math.log(excess / order)

    # Any order is valid, so that a search which stops early costs tightness only.
    low, high = math.log(1e-6), math.log(1e9)
    for _ in range(120):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if bound(left) < bound(right):
            high = right
        else:
            low = left
    return max(0.0, bound((low + high) / 2) * (1 + 1e-12))


def charge_from_sigma(sigma_micro: int, windows: int = 1) -> int:
    """Charge of one release, in units of 2**-40, rounded up.

    Args:
      sigma_micro: Noise multiplier in units of 10^-6; sigma in [0.02, 100000].
      windows: Records that one raw sample can stand in; the sensitivity is that many
        times larger where recorded windows overlap.

    Raises:
      ConfigError: If sigma is out of bounds or windows is not positive.
    """
    check_sigma(sigma_micro)
    if windows < 1:
        raise ConfigError("must be at least 1", key="windows")
    # Negated twice, by which an integer division rounds up.
    return -(-CHARGE_ONE * (windows * MICRO) ** 2 // sigma_micro**2)


@lru_cache(1024)
def epsilon_from_charge(units: int, delta: float) -> float:
    """The epsilon of everything that a total charge paid for, slack included.

    Args:
      units: Sum of charges in units of 2**-40; at least 0.
      delta: In [1e-30, 1).

    Returns:
      0 for nothing; infinity beyond `CHARGE_MAX`.

    Raises:
      ConfigError: If delta is out of bounds.
    """
    if units > CHARGE_MAX:
        return math.inf
    # Division and root each round to nearest: one step up makes sure of the larger
    # side.
    total = math.nextafter(units / CHARGE_ONE, math.inf) if units else 0.0
    mu = math.nextafter(math.sqrt(total), math.inf) if units else 0.0
    return gaussian_epsilon(mu, delta) + SLACK_PER_CHARGE * total


@lru_cache(maxsize=256)
def charge_max(budget: Budget) -> int:
    """The largest total charge, in units of 2**-40, that keeps within a budget."""
    low, high = 0, CHARGE_MAX
    while high - low > 1:
        middle = (low + high) // 2
        if epsilon_from_charge(middle, budget.delta) <= budget.epsilon:
            low = middle
        else:
            high = middle
    return low


def noise_multiplier(budget: Budget, releases: int, windows: int = 1) -> int:
    """The least noise with which a number of equal releases keep within a budget.

    Args:
      budget: For all of the releases together.
      releases: How many; in [1, 2**20].
      windows: As for `charge_from_sigma`.

    Returns:
      Sigma in units of 10^-6.

    Raises:
      ConfigError: If no such noise multiplier is enough, or releases is out of bounds.
    """
    if not 1 <= releases <= RELEASES_MAX:
        raise ConfigError(f"must be in [1, {RELEASES_MAX}]", key="releases")
    # Rounded down: the planned releases must fit even if the last unit is short.
    each = charge_max(budget) // releases
    low, high = SIGMA_MICRO_MIN - 1, SIGMA_MICRO_MAX
    if charge_from_sigma(high, windows) > each:
        raise ConfigError("asks for more noise than there is", key="epsilon")
    while high - low > 1:
        middle = (low + high) // 2
        if charge_from_sigma(middle, windows) <= each:
            high = middle
        else:
            low = middle
    return high


def check_sigma(sigma_micro: int) -> None:
    """Refuses a noise multiplier out of bounds.

    Raises:
      ConfigError: Naming the bounds.
    """
    if not SIGMA_MICRO_MIN <= sigma_micro <= SIGMA_MICRO_MAX:
        bounds = f"[{SIGMA_MICRO_MIN}, {SIGMA_MICRO_MAX}]"
        raise ConfigError(f"must be in {bounds}", key="sigma_micro")


def check_delta(delta: float) -> None:
    """Refuses a delta out of bounds.

    Raises:
      ConfigError: Naming the bounds.
    """
    if not DELTA_MIN <= delta < 1.0:
        raise ConfigError(f"must be in [{DELTA_MIN:g}, 1)", key="delta")


def _mills(x: float) -> float:
    """Phi(-x) / phi(x) for x >= 0, by Laplace's continued fraction when x is large."""
    if x < _MILLS_SERIES_FROM:
        return (
            math.erfc(x / math.sqrt(2)) * math.sqrt(math.pi / 2) * math.exp(x * x / 2)
        )
    tail = x
    for numerator in range(60, 0, -1):
        tail = x + numerator / tail
    return 1.0 / tail
