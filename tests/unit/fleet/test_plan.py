"""A plan that cannot run is refused by flag and bound."""

from typing import Any

import pytest

from starling.fleet.learning_options import LearningOptions
from starling.fleet.plan import FleetPlan
from starling.protocol.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"devices": -1}, "--devices: -1 is not in"),
        ({"patience": 0}, "--patience: 0 is not in"),
        ({"guard_patience": -1}, "--guard-patience: -1 is not in"),
        (
            {"learning": LearningOptions(epochs=3)},
            "--epochs: boards take no steps of their own with --privacy record",
        ),
        ({"buffer": 11}, "--buffer: 11 is not in"),
        ({"privacy": "some"}, "--privacy: 'some' is not one of record, record-dpsgd, "),
        ({"epsilon": 0.0}, "--epsilon: 0 is not in"),
        ({"epsilon": float("nan")}, "--epsilon: nan is not in"),
        ({"delta": 1.0}, "--delta: 1 is not in"),
        ({"until_version": 0}, "--until-version: 0 is not in"),
        ({"leases": 3}, "--leases: 3 is not in"),
        ({"model": "resnet"}, "--model: 'resnet' is not one of softmax"),
        ({"front": "resnet"}, "--front: 'resnet' is not one of orientation"),
        ({"front": "fonts", "model": "cnn"}, "--front: goes with --model head only"),
        ({"codec": "zip"}, "--codec: 'zip' is not one of float32, block8"),
        ({"split": "odd"}, "--split"),
        ({"brokers": 2}, "--brokers: 2 is not in"),
        ({"brokers": 0}, "--brokers: 0 is not in"),
        ({"seed": 10**400}, f"--seed: {10**400} is not in"),
        ({"devices": 10**400}, "--devices: 10"),
        ({"time_limit_s": 10**400}, "--time-limit: 10"),
        ({"guard_patience": -(10**400)}, "--guard-patience: -10"),
        ({"fault_model": "none"}, "--fault-model: 'none' is not one of"),
        (
            {"fault": "kill coordinator 1 at 30s", "time_limit_s": 20.0},
            "--fault: its last entry is at 30 s, after --time-limit",
        ),
        ({"fault_model": "crash"}, "--fault-model: crash is for 2 or 3"),
        ({"fault_model": "crash", "coordinators": 4}, "--fault-model: crash is for"),
    ],
)
def test_plan_out_of_bounds_names_the_flag(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FleetPlan(**changes)


def test_plan_document_holds_everything() -> None:
    document = FleetPlan(seed=9).document()
    assert (document["seed"], document["devices"], document["split"]) == (9, 10, "")


@pytest.mark.parametrize(
    ("plan", "named", "expected"),
    [
        (FleetPlan(devices=0), 0, (10, 4, "iid")),
        (FleetPlan(devices=0), 3, (3, 3, "natural")),
        (FleetPlan(devices=2, buffer=1), 3, (2, 1, "natural")),
        (FleetPlan(devices=0, split="iid"), 3, (10, 4, "iid")),
    ],
)
def test_plan_is_resolved_by_what_the_data_name(
    plan: FleetPlan, named: int, expected: tuple[int, int, str]
) -> None:
    found = plan.resolved(named, 1000)

    assert (found.devices, found.buffer, found.split) == expected


def test_plan_of_few_examples_has_few_boards() -> None:
    assert FleetPlan(devices=0).resolved(0, 50).devices == 3


def test_buffer_above_the_boards_is_refused_and_the_default_shrinks() -> None:
    assert FleetPlan(devices=0).resolved(3, 1000).buffer == 3
    with pytest.raises(ConfigError, match=r"--buffer: 99 is not in \[1, 10\]"):
        FleetPlan(devices=0, buffer=99).resolved(0, 1000)
