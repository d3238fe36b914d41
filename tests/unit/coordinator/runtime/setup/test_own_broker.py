"""A coordinator without a broker's folder says so, instead of looking elsewhere."""

from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.coordinator.config import FILE, CoordinatorConfig
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import identify
from starling.protocol.errors import EXIT_CONFIG
from starling.protocol.schema.toml_settings import sample


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    """The home of one that joined a broker elsewhere."""
    home = tmp_path / "south"
    identify(CoordinatorHome(home), "south")
    (home / FILE).write_text(sample(CoordinatorConfig, {}))
    return home


def test_token_cannot_be_made_without_the_brokers_folder(
    joined: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert starling.main(["enrol", "token", "--home", str(joined)]) == EXIT_CONFIG
    assert "broker.home: this coordinator has no broker's" in capsys.readouterr().err


def test_coordinator_cannot_be_invited_without_the_brokers_folder(
    joined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["invite", str(tmp_path / "x"), "--out", "y", "--home", str(joined)]

    assert starling.main(["coordinator", *words]) == EXIT_CONFIG
    assert "run this at the one that has" in capsys.readouterr().err
