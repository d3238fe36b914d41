"""Changes beside a running agent become events, once each."""

from dataclasses import replace
from pathlib import Path

import pytest

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.runtime.home_monitor import HomeMonitor
from starling.agent.runtime.privacy_ledger import dataset_claim
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.step import events as e
from starling.agent.step.state import AgentState
from starling.protocol.errors import ConfigError
from tests.unit.agent.fake_coordinator import PINNED

OWNER = bytes(16)
EVERY_S = 60.0
STATE = AgentState(PINNED, PrivacyLedger(None, {}, owner=OWNER))


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    """A home with an empty data folder beside it."""
    found = AgentHome(tmp_path / "home")
    found.begin({})
    (tmp_path / "data").mkdir()
    return found


def data_of(home: AgentHome) -> Path:
    return home.path.parent / "data"


def measured(state: AgentState, events: list[e.Event]) -> AgentState:
    for event in events:
        if isinstance(event, e.SpaceMeasured):
            state = replace(state, free_bytes=event.free_bytes)
    return state


def changes(events: list[e.Event]) -> list[e.Event]:
    """Without those of the disk, on which others write as well."""
    return [event for event in events if not isinstance(event, e.SpaceMeasured)]


def test_first_look_measures_the_disk_and_says_when_the_next_one_is(
    home: AgentHome,
) -> None:
    monitor = HomeMonitor(home, data_of(home), EVERY_S)
    assert monitor.due_s == 0.0

    events = monitor.look(STATE, 5.0)

    assert [type(event) for event in events] == [e.SpaceMeasured]
    assert monitor.due_s == 5.0 + EVERY_S
    assert monitor.certificate_days is None


def test_changed_data_are_told_once_and_claimed(home: AgentHome) -> None:
    data = data_of(home)
    monitor = HomeMonitor(home, data, EVERY_S)
    state = measured(STATE, monitor.look(STATE, 5.0))
    (data / "more.csv").write_text("1,2\n")

    first = changes(monitor.look(state, 65.0))
    second = changes(monitor.look(state, 125.0))

    assert first == [e.DataChanged()]
    assert second == []
    claim = dataset_claim.read_claim(data)
    assert claim is not None
    assert claim.ledger == OWNER.hex()


def test_data_of_another_ledger_end_the_agent(home: AgentHome, tmp_path: Path) -> None:
    data = data_of(home)
    monitor = HomeMonitor(home, data, EVERY_S)
    dataset_claim.take(data, b"\x01" * 16, tmp_path / "other")

    with pytest.raises(ConfigError):
        monitor.look(STATE, 5.0)


def test_link_that_leads_nowhere_hides_no_change_of_the_others(
    home: AgentHome,
) -> None:
    (data_of(home) / "old.csv").symlink_to("gone")
    monitor = HomeMonitor(home, data_of(home), EVERY_S)

    (data_of(home) / "new.csv").write_text("1,2\n")

    assert changes(monitor.look(STATE, 0.0)) == [e.DataChanged()]
