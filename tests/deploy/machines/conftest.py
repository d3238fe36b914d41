"""One fleet for all tests here, and boards that train in it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.machines import machine_images
from tests.deploy.machines.deployed_fleet import (
    AGENT_UNIT,
    DeployedFleet,
    final,
    goes_on,
)
from tests.deploy.machines.nspawn_machine import NspawnMachine


@pytest.fixture(scope="session")
def package() -> Path:
    """The package of `make deb`."""
    machine_images.require_machines()
    return machine_images.built_package()


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedFleet]:
    """A server with broker and coordinator as services, and a task."""
    machine_images.require_machines()
    folder = tmp_path_factory.mktemp("machines")
    made = DeployedFleet(folder)
    try:
        made.found()
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def board(fleet: DeployedFleet, package: Path) -> NspawnMachine:
    """A machine that README's three commands made a board."""
    made = fleet.new_board(package)
    fleet.enrol(made)
    made.wait("first update", lambda: final(made) >= 1)
    return made


@pytest.fixture
def training(board: NspawnMachine) -> NspawnMachine:
    """The same, training as often as it is let, and well."""
    settings = board.root / "var/lib/starling/agent.toml"
    before = settings.read_text()
    after = before.replace("period_days = 30.0", "period_days = 0.0")
    if after != before:
        settings.write_text(after)
        board.run("systemctl", "restart", AGENT_UNIT)
    goes_on(board)
    return board
