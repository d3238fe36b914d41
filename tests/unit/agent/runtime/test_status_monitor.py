"""What a running agent tells of its connection."""

from pathlib import Path

import pytest

from starling.agent.runtime.status_monitor import AgentPlace, StatusMonitor
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.link_events import LinkDisconnected
from starling.protocol.errors import TransportError
from starling.service.notifications import ServiceNotifier


@pytest.fixture
def monitor(tmp_path: Path) -> StatusMonitor:
    place = AgentPlace("broker.example:8883", "generic", "no folder")
    return StatusMonitor(AgentHome(tmp_path), place, ServiceNotifier())


def test_lost_connection_is_a_warning_with_the_address_once(
    monitor: StatusMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    for wait_s in (0.5, 0.7):
        monitor.disconnected(LinkDisconnected("Connection refused", wait_s))

    said = "broker away: broker.example:8883: Connection refused"
    assert monitor.broker_said == said
    assert caplog.messages == [f"{said}; next attempt in 0.5 s"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_link_that_failed_for_good_ends_the_agent(monitor: StatusMonitor) -> None:
    with pytest.raises(TransportError, match="the link failed"):
        monitor.disconnected(LinkDisconnected("the link failed: bug", None))
