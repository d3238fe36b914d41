"""What a plan leaves open is filled in: the task is valid, the budget holds."""

from dataclasses import replace

import pytest

from starling.coordinator.task_file.task_settings import publication
from starling.fleet.learning_options import LearningOptions
from starling.fleet.plan import RULES, FleetPlan
from starling.fleet.presets import (
    DataShares,
    between_s,
    heading,
    horizon_s,
    model_name,
    releases,
    task_settings,
)
from starling.fleet.runtime.training_material import prepare
from starling.protocol.errors import ConfigError
from starling.protocol.learning.task import Strategy
from starling.protocol.privacy.gaussian_dp import (
    MICRO,
    charge_from_sigma,
    epsilon_from_charge,
)

DIGITS = DataShares((64,), 143, 144)
PICTURES = DataShares((1, 28, 28), 550, 700)


@pytest.mark.parametrize(
    ("shares", "named", "model"),
    [
        (DIGITS, None, "softmax"),
        (PICTURES, None, "cnn"),
        (PICTURES, "softmax", "softmax"),
    ],
)
def test_model_name_follows_plan_then_data(
    shares: DataShares, named: str | None, model: str
) -> None:
    assert model_name(FleetPlan(model=named), shares) == model


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 50), ({"until_version": 10}, 15), ({"releases": 3}, 3)],
    ids=["a-quarter-more", "least", "named"],
)
def test_releases_cover_an_even_share(changes: dict[str, int], expected: int) -> None:
    assert releases(FleetPlan(**changes)) == expected  # type: ignore[arg-type] # mixed table


def test_task_settings_smaller_budget_takes_smaller_steps() -> None:
    steps = [
        task_settings(FleetPlan(epsilon=epsilon), DIGITS).learning_rate
        for epsilon in (2.0, 8.0, 16.0)
    ]
    assert steps[0] == pytest.approx(steps[1] / 2)
    assert steps[1] == steps[2]


def test_task_settings_equal_boards_pledge_what_the_smallest_has() -> None:
    assert task_settings(FleetPlan(), DIGITS).pledge_most == 143
    uneven = FleetPlan(split="dirichlet:0.5")
    assert task_settings(uneven, PICTURES).pledge_most == 700


def test_task_settings_named_values_win() -> None:
    plan = FleetPlan(learning_rate=0.5, momentum=0.25, clip=2.0, leases=9)
    made = task_settings(plan, DIGITS)
    assert (made.learning_rate, made.momentum) == (0.5, 0.25)
    assert (made.privacy.clip, made.leases) == (2.0, 9)


def test_between_without_faults_is_no_wait() -> None:
    assert between_s(FleetPlan()) == 0.0
    assert horizon_s(FleetPlan()) == 0.0


def test_between_with_faults_makes_the_budget_last_until_they_are_over() -> None:
    fault = "kill coordinator 2 at 20s; restart coordinator 2 at 50s"
    plan = FleetPlan(coordinators=4, fault=fault)

    assert horizon_s(plan) == 65.0
    assert between_s(plan) * releases(plan) >= horizon_s(plan)


def test_heading_all_releases_together_stay_within_epsilon() -> None:
    plan = FleetPlan(epsilon=2.0)
    material = prepare(plan)
    terms = heading(plan, "digits", material.shares, material.bundle).privacy
    assert terms is not None
    charge = charge_from_sigma(round(terms.noise_multiplier * MICRO))
    spent = epsilon_from_charge(charge * terms.releases, plan.delta)
    assert 1.99 < spent <= 2.0


def test_budget_that_ends_before_the_last_version_is_said_at_once() -> None:
    plan = FleetPlan(devices=5, buffer=4, releases=60, until_version=76)
    material = prepare(plan)
    shares, bundle = material.shares, material.bundle
    (note,) = heading(plan, "digits", shares, bundle).notes
    assert "about 75 versions, not 76" in note

    for enough in (replace(plan, until_version=75), replace(plan, privacy="none")):
        assert not heading(enough, "digits", shares, bundle).notes


def test_heading_without_privacy_states_none() -> None:
    plan = replace(FleetPlan(), privacy="none")
    material = prepare(plan)
    assert heading(plan, "digits", material.shares, material.bundle).privacy is None


@pytest.mark.parametrize("rule", RULES)
def test_heading_every_rule_of_aggregation_makes_a_valid_task(rule: str) -> None:
    plan = FleetPlan(rule=rule, privacy="none")
    material = prepare(plan)

    spec = publication(task_settings(plan, material.shares), material.bundle, "t").spec

    assert spec.aggregation.strategy == Strategy[rule.upper()]
    assert (spec.aggregation.staleness_max == 0) == (rule == "fedavg")


def test_publication_rule_that_does_not_go_with_noise_is_refused() -> None:
    plan = FleetPlan(rule="fedasync")
    material = prepare(plan)

    with pytest.raises(ConfigError, match="fedasync mixes models"):
        publication(task_settings(plan, material.shares), material.bundle, "t")


def test_prox_holds_the_local_steps_of_the_task() -> None:
    plan = FleetPlan(privacy="none", learning=LearningOptions(prox=0.5))
    assert task_settings(plan, DIGITS).training.descent.prox == 0.5
    with pytest.raises(ConfigError, match="--prox: boards take no steps"):
        FleetPlan(learning=LearningOptions(prox=0.5))


def test_head_takes_longer_steps_than_a_cnn_and_shorter_ones_with_less_budget() -> None:
    steps = [
        task_settings(FleetPlan(front="whitened", epsilon=epsilon), PICTURES)
        for epsilon in (1.0, 2.0, 8.0)
    ]
    rates = [made.learning_rate for made in steps]
    assert rates == sorted(rates)
    assert rates[2] > 5 * task_settings(FleetPlan(), PICTURES).learning_rate
    assert {made.name for made in steps} == {"head-1"}
