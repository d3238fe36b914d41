"""A home as `starling agent init` makes it."""

from pathlib import Path

import pytest

from starling.protocol.errors import EXIT_DONE
from tests.unit.agent.agent_command import Capture, agent


@pytest.fixture
def home(tmp_path: Path, capsys: Capture) -> Path:
    """A home with keys, not enrolled."""
    path = tmp_path / "home"
    assert agent("init", "--home", path) == EXIT_DONE
    capsys.readouterr()
    return path
