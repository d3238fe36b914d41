"""A run of processes that is to end while its task opens."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from starling.fleet.monitor.run_snapshot import RunSnapshot, VersionPoint
from starling.fleet.runtime import process_run
from starling.fleet.runtime.processes.status_poller import StatusPoller
from starling.fleet.runtime.processes.supervisor import ProcessSupervisor
from starling.protocol.errors import OperationError


class Interrupting:
    """Supervises nothing; the user ends the run at the first look, or never."""

    def __init__(self, *, interrupts: bool = True) -> None:
        self.interrupts = interrupts

    def check(self) -> list[str]:
        if self.interrupts:
            self.interrupts = False
            raise KeyboardInterrupt
        return []


class Poller:
    """Sees the task after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.begun = looks == 0

    def look(self, time_s: float, restarts: int) -> None:
        del time_s, restarts
        self.looks -= 1
        self.begun = self.looks <= 0


class Evaluated:
    """Sees one version, once evaluated after so many looks."""

    version = 3

    def __init__(self, point: VersionPoint, looks: int) -> None:
        self.point = point
        self.looks = looks

    def look(self, time_s: float, restarts: int) -> RunSnapshot:
        self.looks -= 1
        bare = replace(self.point, accuracy=None, loss=None)
        seen = bare if self.looks > 0 else self.point
        return RunSnapshot(time_s, (seen,), (), (), restarts)


def waited(supervisor: Interrupting, poller: Poller) -> str:
    _, because = process_run._wait_for_task(
        cast("ProcessSupervisor", supervisor), cast("StatusPoller", poller)
    )
    return because


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_run, "LOOK_EVERY_S", 0.0)


@pytest.mark.parametrize(
    "point",
    [
        VersionPoint(3, 1.0, 2, accuracy=0.5, loss=1.0),
        # Numbers have no accuracy.
        VersionPoint(3, 1.0, 2, loss=1.0),
    ],
    ids=["classes", "numbers"],
)
def test_run_ends_once_its_last_version_is_evaluated(
    point: VersionPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    poller = Evaluated(point, 2)
    # Of a clock that goes on with each look at the fleet.
    clock = SimpleNamespace(
        monotonic=lambda: float(-poller.looks), sleep=lambda _: None
    )
    monkeypatch.setattr(process_run, "time", clock)

    process_run._wait_for_evaluation(
        cast("StatusPoller", poller), RunSnapshot(9.0, (), (), ())
    )

    assert poller.looks == 0


@pytest.mark.parametrize("looks", [0, 3])
def test_task_that_opens_begins_the_run(looks: int) -> None:
    assert waited(Interrupting(interrupts=False), Poller(looks)) == ""


def test_run_that_is_ended_before_it_sees_its_open_task_has_a_report() -> None:
    assert waited(Interrupting(), Poller(3)) == "interrupted"


def test_run_that_is_ended_before_there_is_a_task_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process_run, "_STATUS_TIMEOUT_S", 0.0)

    with pytest.raises(KeyboardInterrupt):
        waited(Interrupting(), Poller(10**9))


def test_task_that_does_not_open_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_run, "BEGIN_TIMEOUT_S", 0.0)

    with pytest.raises(OperationError, match="was not open after 0 s"):
        waited(Interrupting(interrupts=False), Poller(10**9))
