"""Versions that wait for their trial take a bounded amount of memory."""

import threading
from queue import SimpleQueue
from typing import cast

import pytest

from starling.coordinator.runtime import workers
from starling.coordinator.runtime.evaluation.evaluator import Evaluator
from starling.coordinator.runtime.workers import JobWorkers
from starling.coordinator.step.effects import EvaluateVersion
from starling.coordinator.step.events import Event, VersionEvaluated
from starling.protocol.ids import Digest, H, TaskId, Version

BUNDLE = H(b"bundle")
PATIENCE_S = 60.0
INFERENCE = bytes(40)


class SlowEvaluator:
    """Tells when it begins, and waits until it may go on."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_go_on = threading.Event()

    def evaluate(
        self, bundle: Digest, packed: bytes, theta: bytes
    ) -> tuple[float | None, float]:
        del bundle, packed, theta
        self.begun.set()
        assert self.may_go_on.wait(PATIENCE_S)
        return 0.5, 1.0

    def abandon(self) -> None:
        self.may_go_on.set()

    def stop(self) -> None:
        pass


@pytest.mark.parametrize(
    ("most", "tried"), [(100, [1, 5, 6]), (10**6, [1, 2, 3, 4, 5, 6]), (1, [1, 6])]
)
def test_newest_versions_are_tried_where_all_would_take_too_much(
    monkeypatch: pytest.MonkeyPatch, most: int, tried: list[int]
) -> None:
    monkeypatch.setattr(workers, "WAITING_BYTES_MAX", most)
    events: SimpleQueue[Event | BaseException] = SimpleQueue()
    slow = SlowEvaluator()
    jobs = JobWorkers(cast(Evaluator, slow), None, events.put, events.put)
    try:
        ask(jobs, 1)
        assert slow.begun.wait(PATIENCE_S)
        for number in range(2, 7):
            ask(jobs, number)
        slow.may_go_on.set()
        found: list[int] = []
        while not found or found[-1] != 6:
            event = events.get(timeout=PATIENCE_S)
            assert isinstance(event, VersionEvaluated)
            found.append(event.version)
    finally:
        jobs.stop()

    assert found == tried


def test_stop_begins_no_trial_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    events: SimpleQueue[Event | BaseException] = SimpleQueue()
    slow = SlowEvaluator()
    jobs = JobWorkers(cast(Evaluator, slow), None, events.put, events.put)
    aggregation = jobs._aggregation
    end = aggregation.shutdown

    def shutdown(*, wait: bool = True, cancel_futures: bool = False) -> None:
        if wait:
            # As while an aggregation runs: what was abandoned has time to end, and the
            # next trial time to begin.
            assert isinstance(events.get(timeout=PATIENCE_S), VersionEvaluated)
            slow.begun.clear()
            slow.begun.wait(0.2)
        end(wait=wait, cancel_futures=cancel_futures)

    monkeypatch.setattr(aggregation, "shutdown", shutdown)
    ask(jobs, 1)
    assert slow.begun.wait(PATIENCE_S)
    ask(jobs, 2)

    jobs.stop()

    assert events.empty()


def ask(jobs: JobWorkers, number: int) -> None:
    asked = EvaluateVersion(TaskId(0), Version(number), BUNDLE, BUNDLE)
    jobs.evaluate(asked, b"packed", INFERENCE)
