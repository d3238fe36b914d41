"""The enrolment listener that fails again and again is told of once."""

from typing import cast

import pytest

from starling.broker.runtime.enrolment_files import EnrolmentListener
from starling.broker.runtime.enrolment_gate import EnrolmentGate
from starling.broker.runtime.mosquitto_process import MosquittoProcess
from starling.protocol.errors import OperationError


class Failing:
    """A process that does not run, and starts only once it may."""

    pid = None
    may_start = False

    def start(self) -> None:
        if not self.may_start:
            raise OperationError("the port is taken")


def test_listener_that_does_not_start_is_told_of_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = Failing()
    listener = EnrolmentListener(cast(MosquittoProcess, process), None)

    for _ in range(5):
        listener.keep()
    assert capsys.readouterr().err.count("the port is taken") == 1

    process.may_start = True
    listener.keep()
    assert "started again" in capsys.readouterr().err

    process.may_start = False
    listener.keep()
    assert "the port is taken" in capsys.readouterr().err


class Part:
    """A process or a gate that runs until it is told to end."""

    pid = 7

    def __init__(self, *, is_running: bool = True) -> None:
        self.is_running = is_running

    def start(self) -> None:
        self.is_running = True

    def stop(self) -> None:
        self.is_running = False


class Stuck(Part):
    def stop(self) -> None:
        raise RuntimeError("Event loop is closed")


def test_gate_that_ended_is_started_again(capsys: pytest.CaptureFixture[str]) -> None:
    gate = Part(is_running=False)
    listener = EnrolmentListener(None, cast(EnrolmentGate, gate))

    listener.keep()
    listener.keep()

    assert gate.is_running
    assert capsys.readouterr().err.count("started again") == 1


def test_gate_that_cannot_be_stopped_leaves_no_process_behind() -> None:
    process = Part()
    listener = EnrolmentListener(
        cast(MosquittoProcess, process), cast(EnrolmentGate, Stuck())
    )

    with pytest.raises(RuntimeError):
        listener.stop()

    assert not process.is_running
