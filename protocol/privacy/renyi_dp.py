"""Renyi divergences of noised releases at fixed orders, as integers, without numpy.

Mechanisms that mix compose by adding, at every order of `ORDERS`, what each release
costs; the sums are integers in units of 2**-40. A budget is kept at one order, which
follows from the budget alone, since an order chosen after seeing releases would prove
less (docs/privacy.md), or at the infinite one, whose costs are pure epsilons and whose
delta is 0. Every rounding here is towards the larger cost.

Letters: `q` sampling rate, `sigma` noise multiplier, `alpha` an order above 1.

Source: Mironov 2017, arXiv:1702.07476 (composition); Mironov, Talwar, Zhang 2019,
arXiv:1908.10530, section 3.3 (sampled Gaussian); Canonne, Kamath, Steinke 2020,
arXiv:2004.00010, Proposition 12 (conversion); Feldman and Zrnic 2021, arXiv:2008.11193
(filter at one order); Bun and Steinke 2016, arXiv:1605.02065, Lemma 2.2 (pure).
"""

import math
from functools import lru_cache

from starling.protocol.errors import ConfigError
from starling.protocol.privacy.gaussian_dp import (
    CHARGE_ONE,
    MICRO,
    SLACK_PER_CHARGE,
    Budget,
    check_delta,
    check_sigma,
)

_FINITE: tuple[float, ...] = (
    *(tenths / 10 for tenths in range(13, 110)),
    *(float(order) for order in range(11, 64)),
    *(128.0, 256.0, 512.0, 1024.0),
)
ORDERS: tuple[float, ...] = (*_FINITE, math.inf)
"""Orders at which costs are kept; their places in ledgers' sums."""
PURE = len(_FINITE)
"""The place of the infinite order, at which only pure mechanisms have a finite cost."""
STEPS_MAX = 1 << 16
SAMPLING_MICRO_MIN = 100
COST_MAX = 1 << 62
"""The cost of what has no finite one, in units of 2**-40."""

# Bounds the rounding of the sums below with room, relative and absolute.
_RELATIVE = 2.0**-36
_ABSOLUTE = 2.0**-44
_TERMS_MAX = 500
_NEGLIGIBLE = -35.0
# Moves the best order of a plain Gaussian to where sampled ones have theirs.
_SAMPLED_SHIFT = 0.8

Costs = tuple[int, ...]
"""What something costs at each of `ORDERS`, in units of 2**-40."""


def gaussian_costs(units: int) -> Costs:
    """Costs of Gaussian noise, discrete or not, that is charged so many units.

    Args:
      units: As `protocol.privacy.gaussian_dp.charge_from_sigma`.

    Source: Canonne, Kamath, Steinke 2020, Proposition 5: alpha * Q / 2.
    """
    # Finite orders are whole tenths, so that alpha Q / 2 is rounded up in integers.
    finite = tuple(-(-units * round(10 * order) // 20) for order in _FINITE)
    return (*finite, COST_MAX if units else 0)


@lru_cache(maxsize=64)
def sampled_costs(
    sigma_micro: int, sampling_micro: int, steps: int, windows: int = 1
) -> Costs:
    """Costs of a number of Poisson-sampled sums with discrete Gaussian noise.

    With `windows` the sensitivity is that many times larger, and one of a sample's
    records is drawn with probability at most `windows * q`: both are charged as one
    record of that weight and rate, which dominates.

    Args:
      sigma_micro: Noise multiplier of each sum in units of 10^-6.
      sampling_micro: q in units of 10^-6; 10^6 takes every record.
      steps: How many sums; at least 1.
      windows: Records that one raw sample can stand in.

    Raises:
      ConfigError: If an argument is out of bounds.
    """
    return tuple(
        sampled_cost(order, sigma_micro, sampling_micro, steps, windows)
        for order in ORDERS
    )


def sampled_cost(
    order: float, sigma_micro: int, sampling_micro: int, steps: int, windows: int = 1
) -> int:
    """`sampled_costs` at one order.

    Raises:
      ConfigError: If an argument is out of bounds.
    """
    check_sampling(sampling_micro, steps)
    check_sigma(sigma_micro)
    if windows < 1:
        raise ConfigError("must be at least 1", key="windows")
    if math.isinf(order):
        return COST_MAX
    # A union bound, which may pass 1.
    rate = min(1.0, windows * sampling_micro / MICRO)
    sigma = sigma_micro / MICRO / windows
    each = sampled_divergence(rate, sigma, order)
    grid = SLACK_PER_CHARGE / sigma**2 * order / (order - 1)
    return _units(steps * (each + grid))


@lru_cache(maxsize=64)
def pure_costs(sigma_micro: int) -> Costs:
    """Costs of one release that is 1/sigma-differentially private, such as Laplace's.

    Args:
      sigma_micro: Noise scale over charged sensitivity in units of 10^-6.

    Raises:
      ConfigError: If sigma is out of bounds.
    """
    return tuple(pure_cost(order, sigma_micro) for order in ORDERS)


def pure_cost(order: float, sigma_micro: int) -> int:
    """`pure_costs` at one order.

    Raises:
      ConfigError: If sigma is out of bounds.

    Source: Bun and Steinke 2016, Lemma 2.2 and its proof: randomised response is the
      worst of all, with `exp((alpha-1) D) = p e^((alpha-1)e) + (1-p) e^(-alpha e + e)`
      for `p = e^e / (1 + e^e)`.
    """
    check_sigma(sigma_micro)
    epsilon = MICRO / sigma_micro
    if math.isinf(order):
        return _units(epsilon)
    less = order - 1
    likely = -math.log1p(math.exp(-epsilon))
    first = likely + less * epsilon
    second = likely - epsilon - less * epsilon
    return _units(min(epsilon, max(0.0, _log_add(first, second) / less)))


def times(costs: Costs, count: int) -> Costs:
    """Costs of several equal releases."""
    return tuple(count * cost for cost in costs)


def plus(first: Costs, second: Costs) -> Costs:
    """Costs of two releases together."""
    return tuple(one + other for one, other in zip(first, second, strict=True))


def renyi_epsilon(costs: Costs, delta: float) -> float:
    """The least epsilon that some order proves, rounded up.

    Args:
      costs: Sums at each of `ORDERS`.
      delta: In [1e-30, 1).

    Returns:
      At least 0; infinity if no order has a finite cost.

    Raises:
      ConfigError: If delta is out of bounds.
    """
    check_delta(delta)
    return min(
        _epsilon_at(order, cost, delta)
        for order, cost in zip(ORDERS, costs, strict=True)
    )


def _epsilon_at(order: float, cost: int, delta: float) -> float:
    if cost >= COST_MAX:
        return math.inf
    # Nothing was released; the conversion alone would make an epsilon of it.
    if cost == 0:
        return 0.0
    return max(0.0, cost / CHARGE_ONE + _conversion(order, delta)) * (1 + 1e-12)


def _conversion(order: float, delta: float) -> float:
    """Canonne, Kamath, Steinke 2020, Proposition 12; 0 at the infinite order."""
    if math.isinf(order):
        return 0.0
    return math.log1p(-1 / order) - math.log(delta * order) / (order - 1)


@lru_cache(maxsize=256)
def renyi_max(budget: Budget) -> tuple[int, int]:
    """Order at which a budget is kept, and the largest charge that it allows there.

    Args:
      budget: For everything together.

    Returns:
      An index into `ORDERS` and the most units of 2**-40 at that order, at least 0.
    """
    order = 1 + _SAMPLED_SHIFT * (_gaussian_order(budget) - 1)
    index = min(range(PURE), key=lambda at: abs(ORDERS[at] - order))
    return index, _most(budget, index)


@lru_cache(maxsize=256)
def pure_max(budget: Budget) -> int:
    """The largest sum of pure epsilons within a budget, in units of 2**-40.

    Source: Rogers et al. 2016, arXiv:1605.08294, Theorem 3.6 (filter of pure epsilons).
    """
    return _most(budget, PURE)


def _most(budget: Budget, index: int) -> int:
    # Less than the budget by more than `_epsilon_at` adds, so that what is paid for
    # never shows as more than the budget.
    left = budget.epsilon * (1 - 1e-11) - _conversion(ORDERS[index], budget.delta)
    return max(0, math.floor(left * CHARGE_ONE))


def _gaussian_order(budget: Budget) -> float:
    """The order of `ORDERS` at which a budget lets most Gaussian noise of one kind."""

    def affordable(order: float) -> float:
        return (budget.epsilon - _conversion(order, budget.delta)) / order

    return max(_FINITE, key=affordable)


def sampled_divergence(rate: float, sigma: float, order: float) -> float:
    """Renyi divergence of a Poisson-sampled Gaussian, rounded up.

    Args:
      rate: q, in (0, 1].
      sigma: Noise over sensitivity.
      order: alpha, above 1.

    Source: Mironov, Talwar, Zhang 2019, section 3.3; Theorem 5 says that the other
      direction is never larger.
    """
    if rate >= 1.0:
        exact = order / (2 * sigma**2)
    elif order.is_integer():
        exact = _log_moment_integer(rate, sigma, int(order)) / (order - 1)
    else:
        exact = _log_moment_fraction(rate, sigma, order) / (order - 1)
    return max(0.0, exact) * (1 + _RELATIVE) + _ABSOLUTE


def _log_moment_integer(rate: float, sigma: float, order: int) -> float:
    keep, drop = math.log(rate), math.log1p(-rate)
    terms = [
        _log_binomial(order, taken)
        + taken * keep
        + (order - taken) * drop
        + taken * (taken - 1) / (2 * sigma**2)
        for taken in range(order + 1)
    ]
    most = max(terms)
    return most + math.log(math.fsum(math.exp(term - most) for term in terms))


def _log_binomial(order: int, taken: int) -> float:
    above, below = math.lgamma(order + 1), math.lgamma(taken + 1)
    return above - below - math.lgamma(order - taken + 1)


def _log_moment_fraction(rate: float, sigma: float, order: float) -> float:
    """The moment as two binomial series, split where the densities cross.

    Beyond the order their terms alternate in sign and fall, so that the last ones taken
    bound what was left out.
    """
    keep, drop = math.log(rate), math.log1p(-rate)
    crossing = sigma**2 * (drop - keep) + 0.5
    root = math.sqrt(2) * sigma
    terms: list[tuple[float, float]] = []
    log_size, sign = 0.0, 1.0
    for taken in range(_TERMS_MAX):
        left = order - taken
        low = log_size + taken * keep + left * drop
        low += taken * (taken - 1) / (2 * sigma**2)
        low += _log_half_erfc((taken - crossing) / root)
        high = log_size + left * keep + taken * drop
        high += left * (left - 1) / (2 * sigma**2)
        high += _log_half_erfc((crossing - left) / root)
        terms += [(low, sign), (high, sign)]
        if taken > order and max(low, high) < _NEGLIGIBLE:
            break
        ratio = left / (taken + 1)
        log_size += math.log(abs(ratio))
        sign = math.copysign(sign, sign * ratio)
    terms += [(term, 1.0) for term, _ in terms[-2:]]
    most = max(term for term, _ in terms)
    return most + math.log(math.fsum(s * math.exp(t - most) for t, s in terms))


def _log_half_erfc(x: float) -> float:
    """The logarithm of erfc(x) / 2."""
    if x < 20.0:
        return math.log(0.5 * math.erfc(x))
    # Abramowitz and Stegun 7.1.23; four terms leave less than 10^-12 beyond 20.
    inverse = 1 / (2 * x * x)
    series = 1 - inverse * (1 - 3 * inverse * (1 - 5 * inverse))
    return -x * x - math.log(2 * x * math.sqrt(math.pi)) + math.log(series)


def _log_add(first: float, second: float) -> float:
    most, least = max(first, second), min(first, second)
    return most + math.log1p(math.exp(least - most))


def _units(cost: float) -> int:
    """A cost as an integer, rounded up."""
    scaled = cost * (1 + _RELATIVE) * CHARGE_ONE
    return COST_MAX if scaled >= COST_MAX else math.ceil(scaled)


def check_sampling(sampling_micro: int, steps: int) -> None:
    """Refuses a schedule out of bounds.

    Raises:
      ConfigError: Naming the bounds.
    """
    if not SAMPLING_MICRO_MIN <= sampling_micro <= MICRO:
        bounds = f"[{SAMPLING_MICRO_MIN}, {MICRO}]"
        raise ConfigError(f"must be in {bounds}", key="sampling_micro")
    if not 1 <= steps <= STEPS_MAX:
        raise ConfigError(f"must be in [1, {STEPS_MAX}]", key="steps")
