"""A fleet half way, and how it ended."""

import numpy as np
import pytest

from starling.fleet.monitor.run_snapshot import (
    CoordinatorPoint,
    DevicePoint,
    PrivacyTerms,
    RunHeading,
    RunSnapshot,
    VersionPoint,
)
from starling.fleet.report.model_metrics import ModelMetrics, over_boards
from starling.fleet.report.run_report import RunOutcome
from starling.protocol.learning.metrics import class_metrics
from starling.protocol.wire.message_bodies import DevicePhase

TERMS = PrivacyTerms("one record", "add or remove", 8.0, 1e-5, 2.3, 1.0, 15)


@pytest.fixture
def heading() -> RunHeading:
    return RunHeading("3 boards, buffer 2 · digits", 10, TERMS)


@pytest.fixture
def snapshot() -> RunSnapshot:
    versions = tuple(
        VersionPoint(v, 2.0 * v, 2 if v else 0, 0.1 + 0.2 * v, 2.0, 0.5 * v or None)
        for v in range(5)
    )
    devices = (
        DevicePoint("aaaaaaaaaa", DevicePhase.TRAINING, 4, 3, {}, 4.0, 3000, 90_000),
        DevicePoint("bbbbbbbbbb", DevicePhase.LOST, 3, 3, {"STALE": 2}, 5.5, 2000, 7),
        DevicePoint("cccccccccc", DevicePhase.READY, None, 2, {"BUSY": 1}, 3.0, 1, 0),
    )
    chain = (CoordinatorPoint("coordinator", 12, "ab" * 32, "cd" * 32, 0, 0, 0.012),)
    return RunSnapshot(9.0, versions, devices, chain, restarts=1)


@pytest.fixture
def outcome() -> RunOutcome:
    rng = np.random.default_rng(5)
    labels = np.arange(10) % 3
    # One of ten is wrong: the first.
    right = np.eye(3)[(labels + (np.arange(10) == 0)) % 3]
    test = class_metrics(right, labels)
    boards = [class_metrics(rng.normal(size=(8, 3)), labels[:8]) for _ in range(4)]
    metrics = ModelMetrics(test, test, over_boards(boards))
    return RunOutcome("version reached", 30.0, 4.0, verified=True, metrics=metrics)
