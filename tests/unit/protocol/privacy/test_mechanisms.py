"""Policies that no board could obey, charges, and noise that is just enough."""

import math
from dataclasses import replace

import pytest

from starling.protocol.errors import ConfigError
from starling.protocol.learning.task import (
    MICRO,
    Q24,
    PrivacyPolicy,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.privacy.gaussian_dp import (
    Budget,
    charge_from_sigma,
    epsilon_from_charge,
)
from starling.protocol.privacy.mechanisms import (
    DEVICE_GAUSSIAN,
    DEVICE_LAPLACE,
    MECHANISMS,
    MODES,
    NONE,
    RECORD_DPSGD,
    RECORD_GAUSSIAN,
    calibrate,
    charge_units,
    check_mode,
    check_policy,
    epsilon_shown,
    equivalent_charge,
    release_costs,
    stated_charge,
    update_radius,
)
from starling.protocol.privacy.renyi_dp import (
    ORDERS,
    PURE,
    Costs,
    plus,
    pure_costs,
    pure_max,
    renyi_epsilon,
    renyi_max,
    times,
)

GAUSSIAN = PrivacyPolicy(RECORD_GAUSSIAN, Q24, 2 * MICRO, MICRO, 10**7, 15)
DPSGD = replace(
    GAUSSIAN, mechanism=RECORD_DPSGD, sampling_micro=MICRO // 10, steps=10, charge=7
)
LAPLACE = replace(GAUSSIAN, mechanism=DEVICE_LAPLACE, charge=9)
OPEN = PrivacyPolicy(NONE, 0, 0, 0, 0, 1)
TRAINING = TrainingPolicy(TrainingMode.LOCAL, 1, 20, Q24 // 10)


@pytest.mark.parametrize("policy", [GAUSSIAN, DPSGD, LAPLACE, OPEN])
def test_policy_that_can_be_obeyed_is_taken(policy: PrivacyPolicy) -> None:
    check_policy(policy)


@pytest.mark.parametrize(
    ("policy", "key"),
    [
        (replace(GAUSSIAN, mechanism=77), "mechanism"),
        (replace(GAUSSIAN, sigma_micro=1), "sigma_micro"),
        (replace(GAUSSIAN, charge=1), "charge"),
        (replace(GAUSSIAN, steps=2), "sampling_micro"),
        (replace(GAUSSIAN, sampling_micro=MICRO // 2), "sampling_micro"),
        (replace(DPSGD, charge=0), "charge"),
        (replace(DPSGD, steps=1 << 20), "steps"),
        (replace(DPSGD, sampling_micro=1), "sampling_micro"),
        (replace(LAPLACE, charge=0), "charge"),
    ],
)
def test_policy_that_cannot_be_obeyed_names_the_field(
    policy: PrivacyPolicy, key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_policy(policy)
    assert caught.value.key == key


def test_every_mechanism_has_a_mode_and_every_mode_is_checked() -> None:
    assert set(MODES) == set(MECHANISMS.values())
    check_mode(RECORD_DPSGD, TrainingMode.LOCAL)
    for mechanism, mode in (
        (RECORD_DPSGD, TrainingMode.GRADIENT),
        (RECORD_GAUSSIAN, TrainingMode.LOCAL),
        (77, TrainingMode.LOCAL),
        (NONE, 9),
    ):
        with pytest.raises(ConfigError):
            check_mode(mechanism, mode)


@pytest.mark.parametrize(
    ("policy", "one", "three"),
    [
        (OPEN, 0, 0),
        (GAUSSIAN, charge_from_sigma(2 * MICRO), charge_from_sigma(2 * MICRO, 3)),
        (LAPLACE, 9, 9),
    ],
    ids=["none", "gaussian", "laplace"],
)
def test_charge_is_stated_and_weighs_windows(
    policy: PrivacyPolicy, one: int, three: int
) -> None:
    assert stated_charge(policy) == charge_units(policy, 1) == one
    assert charge_units(policy, 3) == three
    with pytest.raises(ConfigError):
        charge_units(policy, 0)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
@pytest.mark.parametrize(
    ("mechanism", "schedule"),
    [
        (RECORD_DPSGD, (MICRO // 10, 10)),
        (RECORD_DPSGD, (MICRO // 100, 50)),
    ],
)
def test_calibrated_noise_is_the_least_that_keeps_within_the_budget(
    mechanism: int, schedule: tuple[int, int], epsilon: float
) -> None:
    budget = Budget(epsilon, 1e-5)
    sigma = calibrate(mechanism, budget, 10, *schedule)
    index, most = renyi_max(budget)

    def spent(sigma_micro: int) -> int:
        return 10 * release_costs(mechanism, sigma_micro, *schedule, 1)[index]

    assert spent(sigma) <= most < spent(sigma - 1)
    costs = times(release_costs(mechanism, sigma, *schedule, 1), 10)
    found = renyi_epsilon(costs, 1e-5)
    assert found <= epsilon
    # What keeping the budget at one order costs; most where few are sampled.
    assert found > (0.96 if schedule[0] >= MICRO // 10 else 0.87) * epsilon


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
@pytest.mark.parametrize(("releases", "pure"), [(1, True), (10, True), (200, False)])
def test_laplace_takes_the_less_noise_of_pure_sums_and_of_the_order(
    releases: int, epsilon: float, *, pure: bool
) -> None:
    budget = Budget(epsilon, 1e-5)
    sigma = calibrate(DEVICE_LAPLACE, budget, releases)
    plain = math.ceil(releases * MICRO / epsilon)
    assert (plain <= sigma <= plain + 2) if pure else sigma < plain / 2
    index, most = (PURE, pure_max(budget)) if pure else renyi_max(budget)

    def spent(sigma_micro: int) -> int:
        return releases * pure_costs(sigma_micro)[index]

    assert spent(sigma) <= most < spent(sigma - 1)
    assert renyi_epsilon(times(pure_costs(sigma), releases), 1e-5) <= epsilon


def test_device_gaussian_is_calibrated_analytically() -> None:
    # Balle and Wang's sigma of one release: the classic formula would say 4.845.
    found = calibrate(DEVICE_GAUSSIAN, Budget(1.0, 1e-5), 1)
    assert found / MICRO == pytest.approx(3.7307, rel=1e-4)


@pytest.mark.parametrize("releases", [0, 10**9])
@pytest.mark.parametrize("mechanism", [RECORD_DPSGD, DEVICE_LAPLACE])
def test_calibration_of_the_impossible_is_refused(
    mechanism: int, releases: int
) -> None:
    with pytest.raises(ConfigError):
        calibrate(mechanism, Budget(0.01, 1e-9), releases, MICRO, 1)


@pytest.mark.parametrize("releases", [1, 10, 33])
def test_equivalent_charge_shows_the_plan_s_epsilon(releases: int) -> None:
    costs = release_costs(RECORD_DPSGD, MICRO, MICRO // 10, 10, 1)
    charge = equivalent_charge(costs, releases, 1e-5)
    real = renyi_epsilon(times(costs, releases), 1e-5)
    shown = epsilon_from_charge(releases * charge, 1e-5)
    assert real <= shown <= real * (1 + 1e-6)


def test_equivalent_charge_of_hardly_anything_is_one() -> None:
    assert equivalent_charge((0,) * len(ORDERS), 3, 1e-5) == 1


@pytest.mark.parametrize("policy", [GAUSSIAN, DPSGD, LAPLACE])
def test_radius_grows_with_clip_noise_dimension_and_rounding(
    policy: PrivacyPolicy,
) -> None:
    def radius(dimension: int = 1000, codec: int = 1, **changed: int) -> int:
        noised = replace(policy, **changed)
        return update_radius(noised, TRAINING, dimension, 100, codec)

    assert radius() < radius(clip_q24=2 * Q24)
    assert radius() < radius(dimension=2000)
    assert radius() < radius(sigma_micro=4 * MICRO)
    assert radius() < radius(codec=4) < radius(codec=5)


def test_radius_without_a_mechanism_is_refused() -> None:
    with pytest.raises(ConfigError):
        update_radius(OPEN, TRAINING, 10, 10, 0)
    with pytest.raises(ConfigError):
        release_costs(NONE, MICRO, MICRO, 1, 1)


def _planned(mechanism: int, epsilon: float, releases: int) -> PrivacyPolicy:
    """A policy as an operator publishes it."""
    steps, sampling = (10, MICRO // 10) if mechanism == RECORD_DPSGD else (1, MICRO)
    sigma = calibrate(mechanism, Budget(epsilon, 1e-5), releases, sampling, steps)
    plain = PrivacyPolicy(
        mechanism, Q24, sigma, round(epsilon * MICRO), 10**7, releases, sampling, steps
    )
    if mechanism in (RECORD_GAUSSIAN, DEVICE_GAUSSIAN):
        return plain
    costs = release_costs(mechanism, sigma, sampling, steps, 1)
    return replace(plain, charge=equivalent_charge(costs, releases, 1e-5))


def _paid(policy: PrivacyPolicy, releases: int, windows: int = 1) -> Costs:
    schedule = (policy.sampling_micro, policy.steps)
    one = release_costs(policy.mechanism, policy.sigma_micro, *schedule, windows)
    return times(one, releases)


@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
@pytest.mark.parametrize("mechanism", [RECORD_DPSGD, DEVICE_LAPLACE])
def test_epsilon_shown_is_never_below_what_was_paid(
    mechanism: int, epsilon: float, windows: int
) -> None:
    policy = _planned(mechanism, epsilon, 10)
    weight = 1 if mechanism == DEVICE_LAPLACE else windows

    for count in range(1, 11):
        shown = epsilon_shown(count * charge_units(policy, windows), [policy], 1e-5)
        truth = renyi_epsilon(_paid(policy, count, weight), 1e-5)
        assert truth <= shown * (1 + 1e-9)
        assert weight > 1 or shown <= truth * 1.001


def test_epsilon_shown_of_a_mixture_is_never_below_what_was_paid() -> None:
    policies = [
        _planned(RECORD_DPSGD, 4.0, 10),
        _planned(DEVICE_LAPLACE, 8.0, 5),
        _planned(RECORD_GAUSSIAN, 2.0, 15),
    ]
    for counts in ((1, 0, 0), (0, 3, 0), (0, 0, 9), (2, 1, 4), (10, 5, 15)):
        costs = (0,) * len(ORDERS)
        units = 0
        for policy, count in zip(policies, counts, strict=True):
            costs = plus(costs, _paid(policy, count))
            units += count * stated_charge(policy)

        assert renyi_epsilon(costs, 1e-5) <= epsilon_shown(units, policies, 1e-5)


def test_epsilon_shown_of_gaussian_noise_is_on_its_exact_curve() -> None:
    units = 3 * stated_charge(GAUSSIAN)

    assert epsilon_shown(units, [GAUSSIAN, OPEN], 1e-5) == epsilon_from_charge(
        units, 1e-5
    )
    assert epsilon_shown(0, [DPSGD], 1e-5) == 0.0
