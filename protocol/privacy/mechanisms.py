"""The privacy mechanisms: their numbers, what each protects, what a release costs.

| name | protects | noise on |
|---|---|---|
| `record-gaussian` | a record | the sum of clipped per-example gradients, once |
| `record-dpsgd` | a record | such sums of Poisson samples, at every local step |
| `device-gaussian` | all of a board's data | the whole update, clipped in L2 |
| `device-laplace` | all of a board's data | the whole update, clipped in L1 |
| `label-response` | a label, where inputs are public | the label, once |

Gaussian ones add up on one exact curve (`protocol.privacy.gaussian_dp`); whatever mixes
with or consists of others adds up at Renyi orders (`protocol.privacy.renyi_dp`). What
the chain checks is computed from integers alone.

A label's epsilon is spent when it is drawn and not when an update is made of it, so
that releases cost nothing: boards keep accounts of labels
(`agent.privacy.label_ledger`) beside the ledger of releases, and neither adds to the
other.
"""

import math
from collections.abc import Iterable
from functools import lru_cache

from starling.protocol.errors import ConfigError
from starling.protocol.learning.task import (
    E12,
    LABEL_RESPONSE,
    MICRO,
    PrivacyPolicy,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.privacy.gaussian_dp import (
    SIGMA_MICRO_MAX,
    SIGMA_MICRO_MIN,
    Budget,
    charge_from_sigma,
    charge_max,
    check_sigma,
    epsilon_from_charge,
    noise_multiplier,
)
from starling.protocol.privacy.noise_grid import (
    device_radius,
    laplace_radius,
    norm_radius,
    sampled_radius,
)
from starling.protocol.privacy.randomised_response import keep_threshold
from starling.protocol.privacy.renyi_dp import (
    COST_MAX,
    ORDERS,
    Costs,
    check_sampling,
    gaussian_costs,
    pure_cost,
    pure_costs,
    pure_max,
    renyi_epsilon,
    renyi_max,
    sampled_cost,
    sampled_costs,
    times,
)

NONE = 0
RECORD_GAUSSIAN = 1
RECORD_DPSGD = 2
DEVICE_GAUSSIAN = 3
DEVICE_LAPLACE = 4
MECHANISMS = {
    "none": NONE,
    "record-gaussian": RECORD_GAUSSIAN,
    "record-dpsgd": RECORD_DPSGD,
    "device-gaussian": DEVICE_GAUSSIAN,
    "device-laplace": DEVICE_LAPLACE,
    "label-response": LABEL_RESPONSE,
}
"""Numbers by name; they stand on the wire and in ledgers and never change."""
GAUSSIAN = frozenset({RECORD_GAUSSIAN, DEVICE_GAUSSIAN})
"""Those whose releases add up on the exact Gaussian curve."""
DEVICE_LEVEL = frozenset({DEVICE_GAUSSIAN, DEVICE_LAPLACE})
"""Those that protect everything that a board holds."""
UNNOISED = frozenset({NONE, LABEL_RESPONSE})
"""Those whose updates carry no noise."""
_BOTH = frozenset({TrainingMode.GRADIENT, TrainingMode.LOCAL})
MODES = {
    NONE: _BOTH,
    RECORD_GAUSSIAN: frozenset({TrainingMode.GRADIENT}),
    RECORD_DPSGD: frozenset({TrainingMode.LOCAL}),
    DEVICE_GAUSSIAN: _BOTH,
    DEVICE_LAPLACE: _BOTH,
    LABEL_RESPONSE: _BOTH,
}
"""Training modes that each mechanism can protect."""


def check_mode(mechanism: int, mode: int) -> None:
    """Refuses a training mode that a mechanism does not protect.

    Raises:
      ConfigError: Also for a mechanism that is not known.
    """
    if mode not in MODES.get(mechanism, ()):
        raise ConfigError(f"{mechanism} does not go with mode {mode}", key="mechanism")


def check_policy(policy: PrivacyPolicy) -> None:
    """Refuses a policy that no board could obey; exact on integers.

    Raises:
      ConfigError: Naming the field.
    """
    number = policy.mechanism
    if number not in MODES:
        raise ConfigError(f"{number} is not known here", key="mechanism")
    if number in UNNOISED:
        _check_unnoised(policy)
        return
    check_sigma(policy.sigma_micro)
    check_sampling(policy.sampling_micro, policy.steps)
    if policy.clip_q24 < 1:
        raise ConfigError("must be positive", key="clip_q24")
    plain = (policy.sampling_micro, policy.steps) == (MICRO, 1)
    if number != RECORD_DPSGD and not plain:
        raise ConfigError("only record-dpsgd samples and steps", key="sampling_micro")
    if (number in GAUSSIAN) != (policy.charge == 0):
        raise ConfigError("is stated where sigma does not tell it", key="charge")


def _check_unnoised(policy: PrivacyPolicy) -> None:
    """Refuses an epsilon of labels that no draw can have."""
    if policy.mechanism == LABEL_RESPONSE:
        # Called for the bounds that it checks; every number of classes has the same
        # ones.
        keep_threshold(policy.epsilon_micro, 2)
        plain = (policy.sampling_micro, policy.steps, policy.charge)
        if plain != (MICRO, 1, 0):
            raise ConfigError("labels are drawn once, at no charge", key="charge")


def stated_charge(policy: PrivacyPolicy) -> int:
    """The least charge that a contribution states under a policy; exact on integers.

    Raises:
      ConfigError: If sigma is out of bounds.
    """
    if policy.mechanism in UNNOISED:
        return 0
    return policy.charge or charge_from_sigma(policy.sigma_micro)


def charge_units(policy: PrivacyPolicy, windows: int) -> int:
    """Charge of a board with overlapping windows; they make a record weigh more.

    Raises:
      ConfigError: If sigma is out of bounds or windows is not positive.
    """
    if windows < 1:
        raise ConfigError("must be at least 1", key="windows")
    if policy.mechanism == RECORD_GAUSSIAN:
        return charge_from_sigma(policy.sigma_micro, windows)
    sampled = policy.mechanism == RECORD_DPSGD and windows > 1
    return stated_charge(policy) * (_weight(policy, windows) if sampled else 1)


@lru_cache(maxsize=64)
def _weight(policy: PrivacyPolicy, windows: int) -> int:
    """Number of single-window releases that reveal as much as one of several windows.

    Taken as the largest number over the life that is planned, so that what the chain
    shows is not too low at any time of it.
    """
    delta = policy.delta_e12 / E12
    single, several = _costs(policy), _costs(policy, windows)
    counts = {1 << bit for bit in range(policy.releases.bit_length())}
    weight = 1
    for count in sorted(counts | {policy.releases}):
        target = renyi_epsilon(times(several, count), delta)
        if math.isinf(target):
            raise ConfigError("weigh more than any charge", key="windows")
        while renyi_epsilon(times(single, weight * count), delta) < target:
            # The least sufficient weight is passed by a sixteenth at most, on the side
            # that charges more.
            weight += -(-weight // 16)
    return weight


def _costs(policy: PrivacyPolicy, windows: int = 1) -> Costs:
    schedule = (policy.sampling_micro, policy.steps)
    return release_costs(policy.mechanism, policy.sigma_micro, *schedule, windows)


@lru_cache(maxsize=256)
def release_costs(
    mechanism: int, sigma_micro: int, sampling_micro: int, steps: int, windows: int
) -> Costs:
    """Renyi costs of one release.

    Args:
      mechanism: Not NONE.
      sigma_micro: As `PrivacyPolicy`.
      sampling_micro: As `PrivacyPolicy`.
      steps: As `PrivacyPolicy`.
      windows: Records that one raw sample can stand in; device-level mechanisms
        protect all of them at once.

    Raises:
      ConfigError: If an argument is out of bounds.
    """
    if mechanism == LABEL_RESPONSE:
        return (0,) * len(ORDERS)
    if mechanism == RECORD_GAUSSIAN:
        return gaussian_costs(charge_from_sigma(sigma_micro, windows))
    if mechanism == DEVICE_GAUSSIAN:
        return gaussian_costs(charge_from_sigma(sigma_micro))
    if mechanism == DEVICE_LAPLACE:
        return pure_costs(sigma_micro)
    if mechanism == RECORD_DPSGD:
        return sampled_costs(sigma_micro, sampling_micro, steps, windows)
    raise ConfigError(f"{mechanism} is not known here", key="mechanism")


def epsilon_shown(units: int, policies: Iterable[PrivacyPolicy], delta: float) -> float:
    """The most that releases under some policies can have cost a board.

    The chain adds up one integer for a board and does not say what it was for. Gaussian
    charges add up on their own curve. With others among them, a unit is taken to cost
    what it costs at most under any of the policies, order by order.

    Args:
      units: All that a board stated, under these policies alone. Where they are for
        labels, each label's epsilon is returned, which is spent once.
      policies: Of all tasks that it may have taken part in.
      delta: At which epsilon is shown.

    Raises:
      ConfigError: If delta or a policy is out of bounds.
    """
    known = tuple(policies)
    noised = {policy for policy in known if policy.mechanism not in UNNOISED}
    drawn = [each for each in known if each.mechanism == LABEL_RESPONSE]
    if drawn and not noised:
        return max(policy.epsilon_micro for policy in drawn) / MICRO
    if all(policy.mechanism in GAUSSIAN for policy in noised):
        return epsilon_from_charge(units, delta)
    tables = [(_costs(policy), stated_charge(policy)) for policy in noised]
    most = [
        max(
            COST_MAX if costs[at] >= COST_MAX else -(-units * costs[at] // charge)
            for costs, charge in tables
        )
        for at in range(len(ORDERS))
    ]
    return renyi_epsilon(tuple(most), delta)


def calibrate(
    mechanism: int,
    budget: Budget,
    releases: int,
    sampling_micro: int = MICRO,
    steps: int = 1,
) -> int:
    """The least noise with which a number of equal releases keep within a budget.

    A ledger that is capped at the same budget pays for all of them, and for no more.

    Args:
      mechanism: Not one of `UNNOISED`.
      budget: For all of the releases together.
      releases: How many; at least 1.
      sampling_micro: Share of the records in a step, `record-dpsgd` only.
      steps: Noised steps of a release, `record-dpsgd` only.

    Returns:
      Sigma in units of 10^-6.

    Raises:
      ConfigError: If no noise is enough or an argument is out of bounds.

    Source: Balle and Wang 2018 (the Gaussian curve); protocol.privacy.renyi_dp for the
      others.
    """
    if mechanism in GAUSSIAN:
        return noise_multiplier(budget, releases)
    index, most = renyi_max(budget)
    order, each = ORDERS[index], most // max(1, releases)
    pure_each = pure_max(budget) // max(1, releases)

    def enough(sigma_micro: int) -> bool:
        if mechanism != DEVICE_LAPLACE:
            cost = sampled_cost(order, sigma_micro, sampling_micro, steps)
            return cost <= each
        # Few releases cost least as pure epsilons, many at the order.
        pure = pure_cost(math.inf, sigma_micro) <= pure_each
        return pure or pure_cost(order, sigma_micro) <= each

    low, high = SIGMA_MICRO_MIN - 1, SIGMA_MICRO_MAX
    if releases < 1 or not enough(high):
        raise ConfigError("asks for more noise than there is", key="epsilon")
    while high - low > 1:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def equivalent_charge(costs: Costs, releases: int, delta: float) -> int:
    """The charge of Gaussian noise that has the planned releases' epsilon.

    So that charges of different kinds are of one size; `epsilon_shown` turns their sum
    into an epsilon.

    Args:
      costs: Of one release.
      releases: How many are planned.
      delta: At which the task states its epsilon.

    Raises:
      ConfigError: If epsilon leaves all bounds.
    """
    epsilon = renyi_epsilon(times(costs, releases), delta)
    if epsilon <= 0.0:
        return 1
    # One unit above what fits into this epsilon, so that the releases' sum never shows
    # less than they cost.
    return -(-(charge_max(Budget(epsilon, delta)) + 1) // releases)


def update_radius(
    privacy: PrivacyPolicy,
    training: TrainingPolicy,
    dimension: int,
    pledge: int,
    codec: int,
) -> int:
    """The norm that an honest decoded update exceeds less than once in 10^9 times.

    Args:
      privacy: With a mechanism that adds noise.
      training: Its learning rate counts where the board takes noised steps.
      dimension: Number of parameters.
      pledge: Most records that the update may have been trained on.
      codec: Of `protocol.learning.codec_terms`: rounding makes an update longer.

    Returns:
      In units of 2^-24.

    Raises:
      ConfigError: If an argument is out of bounds.
    """
    number = privacy.mechanism
    noise = (privacy.clip_q24, privacy.sigma_micro, dimension, pledge, codec)
    if number == RECORD_GAUSSIAN:
        return norm_radius(*noise)
    if number == DEVICE_GAUSSIAN:
        return device_radius(*noise)
    if number == DEVICE_LAPLACE:
        return laplace_radius(*noise)
    if number == RECORD_DPSGD:
        schedule = (privacy.sampling_micro, privacy.steps)
        return sampled_radius(*noise, *schedule, training.learning_rate_q24)
    raise ConfigError(f"{number} is not known here", key="mechanism")
