"""A task whose version 0 cannot be harms itself alone."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from starling.coordinator.aggregation.server_step import initial_state
from starling.coordinator.aggregation.strategy import PackedModel, pack_model
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.coordinator.loop.job_inputs import JobInputs
from starling.coordinator.loop.ports import LoopPorts
from starling.coordinator.loop.storage.blob_cache import BlobCache
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.step.effects import ComputeVersion
from starling.coordinator.step.events import ComputationFailed, Event, VersionComputed
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.learning.task import ModelDigests, Robust
from tests.unit.coordinator.fixtures.single_coordinator import (
    DIMENSION,
    GENESIS,
    MODEL,
    SEALING,
    spec,
)

WHOLE = bytes(8 * DIMENSION)
HISTORY = bytes(8 * 65)


def computed(
    theta: bytes, momentum: bytes, average: bytes, robust: Robust = Robust.NONE
) -> Event:
    """Result of version 1 of a task with this version 0."""
    store = SqliteStore.in_memory(GENESIS)
    with store.transaction():
        for part in (theta, momentum, average):
            store.put_blob(part)
    task = spec()
    digests = ModelDigests(H(theta), H(momentum), H(average), H(b""), H(b""))
    policy = evolve(task.aggregation, robust=robust)
    task = evolve(task, initial=digests, aggregation=policy)

    def compute(*_job: object) -> PackedModel:
        return MODEL

    world = SimpleNamespace(store=store, compute=compute, examine=None)
    inputs = JobInputs(cast(LoopPorts, world), BlobCache(store), SEALING)
    job = AggregationJob(TaskId(0), Version(1), 1, ())
    work = inputs.aggregation(ComputeVersion(TaskId(0), Version(1), job), task)
    assert callable(work)
    return work()


@pytest.mark.parametrize(
    ("momentum", "robust"), [(WHOLE, Robust.NONE), (WHOLE + HISTORY, Robust.MEAN)]
)
def test_version_0_that_the_strategy_begins_with_is_built_upon(
    momentum: bytes, robust: Robust
) -> None:
    assert isinstance(computed(WHOLE, momentum, WHOLE, robust), VersionComputed)


@pytest.mark.parametrize(
    ("theta", "momentum", "average", "robust"),
    [
        (WHOLE[:-1], WHOLE, WHOLE, Robust.NONE),
        (WHOLE[:-8], WHOLE[:-8], WHOLE[:-8], Robust.NONE),
        (WHOLE, WHOLE[:-8], WHOLE, Robust.NONE),
        (WHOLE, WHOLE, b"", Robust.NONE),
        (WHOLE, WHOLE + HISTORY, WHOLE, Robust.NONE),
        (WHOLE, WHOLE, WHOLE, Robust.MEAN),
        (WHOLE, WHOLE + b"\x41" + HISTORY[1:], WHOLE, Robust.MEAN),
    ],
)
def test_version_0_of_other_parts_is_no_job_and_ends_nothing(
    theta: bytes, momentum: bytes, average: bytes, robust: Robust
) -> None:
    assert isinstance(computed(theta, momentum, average, robust), ComputationFailed)


def test_state_of_four_zeros_is_what_these_tests_take_it_for() -> None:
    parts = pack_model(initial_state(np.zeros(DIMENSION, np.int64)))
    assert (parts.theta, parts.momentum, parts.average) == (WHOLE, WHOLE, WHOLE)
