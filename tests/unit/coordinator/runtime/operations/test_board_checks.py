"""A command asks for a board's checks and waits, or says why there are none."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from starling.broker.health_checks import HealthCheck, Verdict, to_rows
from starling.coordinator.runtime.command_inbox import settle
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations import board_checks
from starling.coordinator.runtime.operations.board_checks import check_board
from starling.coordinator.step.effects import RemoveInboxFile
from starling.protocol.errors import ConfigError, OperationError, Reason
from starling.protocol.ids import Digest
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.health_messages import HEALTH_REPORT, HealthReport
from tests.unit.coordinator.runtime.operations.test_chain_decision import Time, shows

BOARD = "a" * 25 + "q"
IDENTITY = Digest(bytes(32))
ROWS = [HealthCheck("disk.room", Verdict.FAIL, "none", "make room")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CoordinatorHome:
    """One whose coordinator runs; what it is handed lies in its inbox."""
    made = CoordinatorHome(tmp_path)
    made.inbox.mkdir()
    made.state.mkdir()
    shows(made, "running", os.getpid())

    def submit(_: CoordinatorHome, kind: MessageKind, body: bytes) -> Digest:
        assert kind == MessageKind.HEALTH_REQUEST
        (made.inbox / f"{IDENTITY.hex()}.tx").write_bytes(body)
        return IDENTITY

    monkeypatch.setattr(board_checks, "submit", submit)
    return made


def check(
    home: CoordinatorHome, happens: Callable[[], None] = lambda: None
) -> list[HealthCheck]:
    time = Time()
    time.happens[3] = happens
    return check_board(home, BOARD, 5.0, time.clock, time.pause)


def answers(home: CoordinatorHome, report: HealthReport) -> None:
    packed = HEALTH_REPORT.pack(report)
    settle(home.inbox, RemoveInboxFile(f"{IDENTITY.hex()}.tx", answer=packed))


def test_answer_that_comes_later_is_waited_for_and_read_once(
    home: CoordinatorHome,
) -> None:
    found = check(home, lambda: answers(home, HealthReport(1, to_rows(ROWS))))

    assert found == ROWS
    assert list(home.inbox.iterdir()) == []


def test_owner_s_word_is_told_with_the_key_that_changes_it(
    home: CoordinatorHome,
) -> None:
    with pytest.raises(OperationError, match=r"privacy\.tell_health = true"):
        check(home, lambda: answers(home, HealthReport(0, ())))


def test_refusal_is_told(home: CoordinatorHome) -> None:
    refused = RemoveInboxFile(f"{IDENTITY.hex()}.tx", Reason.NOT_ENROLLED, "no board")

    with pytest.raises(OperationError, match="is not asked: no board"):
        check(home, lambda: settle(home.inbox, refused))


def test_silence_ends_after_a_while_and_takes_the_request_back(
    home: CoordinatorHome,
) -> None:
    with pytest.raises(OperationError, match="did not answer within 5 s"):
        check(home)

    assert list(home.inbox.iterdir()) == []


def test_coordinator_that_does_not_run_is_said_at_once(home: CoordinatorHome) -> None:
    shows(home, "stopped", os.getpid())

    with pytest.raises(OperationError, match="does not run"):
        check(home)
    assert list(home.inbox.iterdir()) == []


def test_name_that_is_no_board_s_is_a_usage_error(home: CoordinatorHome) -> None:
    with pytest.raises(ConfigError, match="--remote"):
        check_board(home, "nobody", 5.0)
