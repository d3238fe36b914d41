"""Warnings come once an hour, a stall when it begins and when it ends."""

import logging

import pytest

from starling.coordinator.health.chain_stall import ChainStall, MissingVotes
from starling.coordinator.runtime.status.log_alarms import (
    AGAIN_S,
    STALL_AGAIN_S,
    LogAlarms,
)
from starling.coordinator.step.effects import RecordRefusal
from starling.protocol.errors import Reason

LOG = logging.getLogger("test.alarm")
STILL = ChainStall(True, 31.0, 31.0, MissingVotes(), ("no quorum", "disk"))
GOES_ON = ChainStall(False, 0.1, 0.1, MissingVotes(), ())


@pytest.fixture
def alarm(caplog: pytest.LogCaptureFixture) -> LogAlarms:
    caplog.set_level(logging.INFO, "test.alarm")
    return LogAlarms(LOG)


def refuse(reason: Reason) -> RecordRefusal:
    return RecordRefusal(None, reason, "why")


def test_refused_peer_is_warned_of_once_an_hour_for_each_reason(
    alarm: LogAlarms, caplog: pytest.LogCaptureFixture
) -> None:
    for now_s in (0.0, 1.0, AGAIN_S - 1.0):
        alarm.refused(refuse(Reason.BUSY), "north", now_s)
    alarm.refused(refuse(Reason.EQUIVOCATION), "north", 2.0)
    alarm.refused(refuse(Reason.BUSY), "south", 3.0)
    assert caplog.messages == [
        "refused north: BUSY: why",
        "refused north: EQUIVOCATION: why",
        "refused south: BUSY: why",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    alarm.refused(refuse(Reason.BUSY), "north", AGAIN_S)
    assert caplog.messages[3:] == ["refused north: BUSY: why"]


def test_refusals_of_boards_are_no_warnings(
    alarm: LogAlarms, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "test.alarm")
    alarm.refused(refuse(Reason.STALE), "", 0.0)
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG


def test_stall_is_said_when_it_begins_each_minute_and_when_it_ends(
    alarm: LogAlarms, caplog: pytest.LogCaptureFixture
) -> None:
    alarm.stall(GOES_ON, 7, 0.0)
    for now_s in (100.0, 101.0, 100.0 + STALL_AGAIN_S):
        alarm.stall(STILL, 7, now_s)
    alarm.stall(GOES_ON, 8, 170.0)
    alarm.stall(GOES_ON, 9, 171.0)
    said = "stands still at height 7, no block for 31 s: no quorum; disk"
    assert caplog.messages == [said, said, "goes on at height 8 after 101 s"]


def test_trouble_whose_figures_change_is_one_trouble(
    alarm: LogAlarms, caplog: pytest.LogCaptureFixture
) -> None:
    alarm.warn(["disk: 3 MB free"], 0.0)
    alarm.warn(["disk: 2 MB free", "broker: connection lost"], 1.0)
    assert caplog.messages == ["disk: 3 MB free", "broker: connection lost"]
