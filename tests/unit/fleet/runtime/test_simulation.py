"""`simulate`: what its documentation promises, and what it refuses."""

import doctest
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest

import starling
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.step.effects import RecordRefusal
from starling.fleet.monitor.run_snapshot import VersionPoint
from starling.fleet.reference_models import build_model
from starling.fleet.runtime import simulation
from starling.fleet.runtime.simulation import (
    STOPPED,
    RefusedUpdate,
    Simulation,
    TakenUpdate,
    simulate,
)
from starling.fleet.virtual.virtual_fleet import VirtualFleet
from starling.protocol.errors import ConfigError, Reason
from starling.protocol.ids import DeviceId

RNG = np.random.default_rng(4)
X = RNG.normal(size=(400, 6)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


def quick(**changes: Any) -> Simulation:  # noqa: ANN401 - arguments of `simulate`
    settings: dict[str, Any] = {"boards": 4, "versions": 4, "threads": 1, **changes}
    return simulate("softmax", (X, Y), **settings)


def test_the_example_of_the_documentation_runs() -> None:
    (found,) = doctest.DocTestFinder(recurse=False).find(
        starling.simulate, "simulate", globs={}
    )
    assert len(found.examples) > 5

    failed, _ = doctest.DocTestRunner().run(found)

    assert failed == 0


def test_every_version_and_update_is_told_once_and_in_order() -> None:
    versions: list[VersionPoint] = []
    updates: list[TakenUpdate] = []

    run = quick(on_version=versions.append, on_update=updates.append)

    assert [point.version for point in versions] == [0, 1, 2, 3, 4]
    assert all(point.loss is not None for point in versions)
    assert tuple(versions) == run.history
    accepted = [device["updates_accepted"] for device in run.report["devices"]]
    assert len(updates) == sum(accepted)
    for board, count in enumerate(accepted):
        told = [update.count for update in updates if update.board == board]
        assert told == list(range(1, count + 1))


def test_a_callback_ends_the_run() -> None:
    run = quick(versions=50, on_version=lambda point: point.version == 2)

    assert run.report["stopped_because"] == STOPPED
    assert 2 <= run.history[-1].version < 50


def test_patience_ends_the_run() -> None:
    run = quick(versions=60, patience=1, learning_rate=40.0)

    assert run.report["stopped_because"] == "converged"


def test_refusals_are_told_once_each_with_their_board() -> None:
    # Honest boards are refused nothing: a coordinator that refuses some is made up.
    told: list[RefusedUpdate] = []
    first, second = DeviceId(b"a" * 16), DeviceId(b"b" * 16)
    tally = CoordinatorCounters(0, lambda: 0.0)
    for sender, reason in (
        (second, Reason.STALE),
        (second, Reason.STALE),
        (None, Reason.MALFORMED),
    ):
        tally.refuse(RecordRefusal(sender, reason, ""))
    hub = SimpleNamespace(tally=tally)
    fleet = cast(
        "VirtualFleet", SimpleNamespace(identities=(first, second), coordinators=[hub])
    )
    watcher = simulation._Watcher({"on_refusal": told.append})

    assert watcher(fleet) == ""
    tally.refuse(RecordRefusal(second, Reason.STALE, ""))
    watcher(fleet)

    assert told == [
        RefusedUpdate(1, "STALE"),
        RefusedUpdate(1, "STALE"),
        RefusedUpdate(None, "MALFORMED"),
        RefusedUpdate(1, "STALE"),
    ]


def test_argument_that_there_is_not_is_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match="'coordinators': there are \\['aggregator'"):
        quick(coordinators=4)


def test_same_seed_gives_the_same_model_and_other_seeds_others() -> None:
    assert quick().model == quick().model
    assert quick(seed=2).model != quick().model


def test_each_board_may_bring_its_own_arrays() -> None:
    pairs = [(X[:150], Y[:150]), (X[150:250], Y[150:250]), (X[250:], Y[250:])]

    run = simulate("softmax", pairs, versions=3, test=(X, Y), threads=1)

    assert len(run.report["devices"]) == 3
    assert run.report["metrics"]["test"]["examples"] == 400
    assert run.report["metrics"]["held_out"]["examples"] == 15 + 10 + 15


def test_regression_of_an_onnx_model_is_measured_in_errors() -> None:
    made = build_model("mlp", (6,), 1, np.random.default_rng(1))
    values = (X @ np.arange(6, dtype=np.float32))[:, None] / 8
    content = made.SerializeToString()

    run = simulate(
        content, (X, values), loss="mse", boards=4, versions=12, privacy="none"
    )

    held_out = run.report["metrics"]["held_out"]
    assert set(held_out) == {"examples", "mae", "rmse", "r2"}
    assert run.history[-1].accuracy is None
    losses = [point.loss for point in run.history if point.loss is not None]
    assert losses[run.version] == min(losses) < losses[0]
    session = onnxruntime.InferenceSession(run.model)
    assert [port.name for port in session.get_outputs()] == ["logits"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((X, Y[:-1]), "not the same two or more"),
        ((X[:1], Y[:1]), "not the same two or more"),
        ((X, Y.astype(str)), "not numbers; number them"),
        ((X[:, 0] + 1j, Y), "not numbers"),
        ((X, Y - 1), "whole numbers in"),
        ((X, Y + 0.5), "whole numbers in"),
        ((np.where(X > 2, np.nan, X), Y), "no finite number"),
        ((X, np.where(X[:, 0] > 2, np.nan, Y)), "y holds what is no finite number"),
        ((X[:40], Y[:40]), "at least 16"),
        ([], "no board has any"),
        ([(X, Y), (X[:10], Y[:10])], "board 1 has 9 examples"),
        ([(X, Y), (X[:, :5], Y)], "board 1: x: is (400, 5); the model has (n, 6)"),
        ([X, Y], "expected two arrays"),
        (X, "expected a tuple"),
        (None, "expected a tuple"),
    ],
    ids=[
        "lengths",
        "one",
        "texts",
        "complex",
        "negative",
        "halves",
        "nan",
        "nan target",
        "few",
        "none",
        "small board",
        "other shape",
        "no pairs",
        "one array",
        "nothing",
    ],
)
def test_arrays_that_do_not_fit_are_named(data: Any, said: str) -> None:  # noqa: ANN401 - wrong on purpose
    with pytest.raises(ConfigError) as refused:
        simulate("softmax", data, boards=4, versions=1)

    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"buffer": 9}, "--buffer"),
        ({"buffer": 0}, "--buffer"),
        ({"privacy": "some"}, "--privacy"),
        ({"versions": 0}, "--until-version"),
        ({"split": "odd"}, "odd"),
        ({"held_out": (X[:5, :2], Y[:5])}, "held_out"),
    ],
)
def test_arguments_out_of_bounds_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        quick(**changes)


def test_labels_are_drawn_once_and_the_fleet_learns_from_what_was_drawn() -> None:
    run = quick(privacy="labels", epsilon=4.0, versions=12)
    again = quick(privacy="labels", epsilon=4.0, versions=12)

    shown = [point.accuracy for point in run.history]
    assert shown == [point.accuracy for point in again.history]
    assert shown[-1] is not None
    assert shown[-1] > 0.8
    privacy = run.report["privacy"]
    assert (privacy["unit"], privacy["delta"]) == ("one label", 0.0)
    assert [point.epsilon_max for point in run.history] == [4.0] * 13
    assert {device["epsilon"] for device in run.report["devices"]} == {4.0}


def test_labels_at_a_tiny_epsilon_say_nothing() -> None:
    run = quick(privacy="labels", epsilon=0.001, versions=12)

    assert run.history[-1].accuracy is not None
    assert run.history[-1].accuracy < 0.75


def test_labels_of_a_regression_are_refused() -> None:
    content = build_model("mlp", (6,), 1, np.random.default_rng(1)).SerializeToString()

    with pytest.raises(ConfigError, match="is for classes"):
        simulate(content, (X, X[:, :1]), loss="mse", boards=4, privacy="labels")
