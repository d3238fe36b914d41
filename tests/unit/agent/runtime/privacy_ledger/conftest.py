"""A home that has paid."""

from pathlib import Path

import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from tests.unit.agent.runtime.privacy_ledger.paid_home import begin, pay


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    """A home that has paid."""
    found = begin(tmp_path / "home")
    pay(found)
    return found
