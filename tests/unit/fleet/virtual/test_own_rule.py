"""A rule of one's own makes the versions of a simulation, or is refused."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
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
from starling.fleet.virtual.own_rule import (
    WaitingBoard,
    checked_rule,
    checked_selection,
)
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
        buffer=3,
        versions=4,
        privacy="none",
        aggregator=rule,
        **{"boards": 4, **more},
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


def select(rule: Any, **more: Any) -> starling.fleet.Simulation:  # noqa: ANN401 - wrong ones, too
    return run(None, **{"boards": 6, "selector": rule, **more})


@pytest.mark.parametrize("waves", [False, True])
def test_own_selection_says_who_trains(waves: bool) -> None:
    asked: list[tuple[list[WaitingBoard], int]] = []

    def last(waiting: Sequence[WaitingBoard], places: int) -> list[int]:
        asked.append((list(waiting), places))
        return [each.board for each in waiting][-places:]

    taken: list[int] = []
    found = select(
        last, waves=waves, on_update=lambda update: taken.append(update.board)
    )

    assert found.report["config"]["selector"] == "last"
    assert found.report["chain"]["verified"]
    assert found.history[-1].version == 4
    assert all(len(waiting) >= 1 and places >= 1 for waiting, places in asked)
    if waves:
        # Three places for each version, and the same three boards are free again.
        assert set(taken) == {3, 4, 5}
        assert {places for _, places in asked} == {3}
    else:
        assert taken.count(5) > taken.count(0)


def test_own_selection_hears_what_is_known_of_a_board() -> None:
    heard: list[WaitingBoard] = []

    class Fewest:
        def __call__(
            self, waiting: Sequence[WaitingBoard], places: int
        ) -> Iterable[np.int64]:
            heard.extend(waiting)
            order = np.argsort([each.updates for each in waiting], kind="stable")
            return np.array([each.board for each in waiting])[order[:places]]

    found = select(Fewest(), waves=True)

    assert found.report["config"]["selector"] == "Fewest"
    first, later = heard[:6], heard[6:12]
    assert [each.board for each in first] == list(range(6))
    assert [each.staleness for each in first] == [None] * 6
    assert [each.staleness for each in later] == [1, 1, 1, None, None, None]
    assert [each.updates for each in later] == [1, 1, 1, 0, 0, 0]
    named = {device["id"] for device in found.report["devices"]}
    assert {each.device for each in first} == named
    assert all(each.pledge > 0 and each.duration_s > 0 for each in first)
    assert all(0 <= each.reputation <= 1 for each in first)


@pytest.mark.parametrize(
    ("taken", "waves", "said"),
    [
        (None, False, "gave None; give the numbers of boards"),
        ("012", False, "give the numbers"),
        (1, False, "give the numbers"),
        ([0.5], False, "give the numbers"),
        ([True, False], False, "give the numbers"),
        ([0, 6], False, "took 6, which does not wait: take of 0, 1, 2, 3, 4, ..."),
        ([-1], False, "took -1, which does not wait"),
        ([2, 2], False, "took 2, 2: name each board once"),
        ([0, 1, 2, 3], True, "took 4 boards: take 3 at most"),
        ([], False, "took 0 boards, .* take at least 1 of 0, 1"),
        ([0, 1], True, "took 2 boards, .* take at least 3 of 0, 1"),
    ],
    ids=str,
)
def test_selection_that_cannot_be_ends_the_simulation(
    taken: object, waves: bool, said: str
) -> None:
    with pytest.raises(ConfigError, match=f"selector.*{said}"):
        select(lambda waiting, places: taken, waves=waves)


def test_selection_that_wakes_nobody_who_can_train_is_told() -> None:
    # Two boards alone never fill a buffer of three: the rest is asked for, and refused.
    def two(waiting: Sequence[WaitingBoard], places: int) -> list[int]:
        del places
        return [each.board for each in waiting if each.board < 2]

    with pytest.raises(ConfigError, match=r"selector.*at least 1 of 2, 3, 4, 5"):
        select(two)


def test_what_a_selection_raises_comes_out_as_it_is() -> None:
    def torn(waiting: Sequence[WaitingBoard], places: int) -> list[int]:
        raise LookupError(f"{len(waiting)} for {places}")

    with pytest.raises(LookupError, match="6 for"):
        select(torn)


def test_selection_that_is_no_function_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"selector.*expected a function"):
        checked_selection("uniform")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["aggregator=median", "selector=quick"])
def test_example_of_the_page_runs(name: str) -> None:
    page = (Path(__file__).parents[4] / "docs" / "fleet.md").read_text("utf-8")
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", page, re.MULTILINE)
    (block,) = [each for each in blocks if name in each]
    code = re.sub(r"^ {4}", "", block, flags=re.MULTILINE)
    code = code.replace('"model.onnx"', '"softmax"')
    code = code.replace(", (x, y)", ", (x, y), versions=3")

    exec(code, {"x": X, "y": Y, "starling": starling})  # noqa: S102 - our own page
