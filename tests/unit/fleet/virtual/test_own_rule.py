"""A rule of one's own makes the versions of a simulation, or is refused."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import starling
from starling.coordinator.aggregation.server_step import initial_state, momentum_step
from starling.coordinator.aggregation.strategy import (
    Aggregator,
    ModelState,
    WeightedUpdate,
)
from starling.fleet.virtual.own_rule import checked_rule
from starling.protocol.errors import ConfigError
from starling.protocol.learning.task import AggregationPolicy

X = np.random.default_rng(1).normal(size=(300, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def median(policy: AggregationPolicy, noise_variance: int) -> Aggregator:
    """Coordinate-wise median of the mean gradients."""
    del noise_variance

    def apply(
        state: ModelState, updates: Iterable[WeightedUpdate], version: int
    ) -> ModelState:
        del version
        means = [update.vector // update.pledge for update in updates]
        middle = np.sort(np.stack(means), axis=0)[len(means) // 2]
        return momentum_step(policy, state, middle)

    return Aggregator(initial_state, apply)


def run(rule: Any, **more: Any) -> starling.fleet.Simulation:  # noqa: ANN401 - wrong ones, too
    return starling.simulate(
        "softmax",
        (X, Y),
        boards=4,
        buffer=3,
        versions=4,
        privacy="none",
        aggregator=rule,
        **more,
    )


def test_own_rule_makes_the_versions_and_stands_in_the_report() -> None:
    seen: list[int] = []

    def noted(policy: AggregationPolicy, noise_variance: int) -> Aggregator:
        made = median(policy, noise_variance)

        def apply(
            state: ModelState, updates: Iterable[WeightedUpdate], version: int
        ) -> ModelState:
            seen.append(version)
            return made.apply(state, updates, version)

        return Aggregator(made.init, apply)

    own, usual = run(noted), run(None)

    assert seen == [1, 2, 3, 4]
    assert own.report["config"]["rule"] == "noted"
    assert usual.report["config"]["rule"] == "fedbuff"
    assert own.report["chain"]["verified"]
    assert own.history[-1].loss != usual.history[-1].loss


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda state: state.theta, "no ModelState"),
        (lambda state: replace(state, theta=state.theta[:-1]), "theta: expected"),
        (lambda state: replace(state, theta=state.theta * 1.0), "theta: expected"),
        (
            lambda state: replace(state, theta=state.theta + 2**60),
            "theta: an entry",
        ),
        (lambda state: replace(state, memory=state.theta), "memory"),
    ],
    ids=["no state", "cut", "float", "huge", "memory"],
)
def test_state_that_no_coordinator_keeps_ends_the_simulation(
    spoil: Callable[[ModelState], Any], said: str
) -> None:
    def spoilt(policy: AggregationPolicy, noise_variance: int) -> Aggregator:
        made = median(policy, noise_variance)
        return Aggregator(made.init, lambda *arguments: spoil(made.apply(*arguments)))

    with pytest.raises(ConfigError, match=rf"aggregator.*{said}"):
        run(spoilt)


def test_rule_that_builds_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"aggregator.*no Aggregator"):
        run(lambda policy, noise_variance: None)
    with pytest.raises(ConfigError, match=r"aggregator.*expected a function"):
        checked_rule("fedbuff")  # type: ignore[arg-type]
