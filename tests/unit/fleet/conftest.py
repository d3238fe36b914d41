"""A fleet half way, and how it ended."""

import pytest

from starling.fleet.monitor.run_snapshot import (
    CoordinatorPoint,
    DevicePoint,
    PrivacyTerms,
    RunHeading,
    RunSnapshot,
    VersionPoint,
)
from starling.fleet.report.run_report import RunOutcome
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
    return RunOutcome("version reached", 30.0, 4.0, verified=True, test_accuracy=0.9)
