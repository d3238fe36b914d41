"""The enrolment listener that fails again and again is told of once."""

from typing import cast

import pytest

from starling.broker.runtime.enrolment_files import EnrolmentListener
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
