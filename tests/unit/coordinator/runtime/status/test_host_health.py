"""The broker, its rights and the disk have a name while something is wrong."""

from pathlib import Path

import pytest

from starling.coordinator.runtime.status import host_health
from starling.coordinator.runtime.status.host_health import (
    REFUSED_SHOWN_S,
    HostHealth,
    HostReport,
)


def test_broker_that_refuses_has_a_name_until_it_is_long_ago(tmp_path: Path) -> None:
    seen = HostHealth(tmp_path)
    seen.connected()
    seen.answered(0, 1.0)
    seen.answered(0x10, 1.0)
    assert seen.look(()).rights == ""
    seen.answered(0x87, 2.0)
    seen.answered(0, 2.0 + REFUSED_SHOWN_S)
    assert seen.look(()).rights == (
        "broker rights: it refuses what we publish, 0x87 not authorised"
    )
    seen.answered(0, 2.1 + REFUSED_SHOWN_S)
    assert seen.look(()).rights == ""


def test_broker_that_is_away_is_a_trouble_with_its_reason(tmp_path: Path) -> None:
    seen = HostHealth(tmp_path)
    seen.disconnected("connection lost")
    facts = seen.look(("other:1 connected",))
    assert facts.broker == "disconnected: connection lost; other:1 connected"
    assert f"broker: {facts.broker}" in facts.troubles
    assert not any("broker" in text for text in facts.warnings)
    seen.connected()
    assert not any("broker" in text for text in seen.look(()).troubles)


@pytest.mark.parametrize("room", [-1, 0, 1])
def test_disk_with_little_room_is_a_trouble(room: int) -> None:
    facts = HostReport("connected", True, "", host_health.DISK_FREE_MIN_BYTES + room)
    assert bool(facts.troubles) == (room < 0)


def test_disk_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    assert HostHealth(tmp_path / "gone").look(()).disk_free_bytes is None
