"""Four coordinators in memory."""

import pytest

from tests.unit.coordinator.fixtures.fleet_board import FleetBoard, voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators


@pytest.fixture
def council() -> FourCoordinators:
    """All run; the chain has no block yet."""
    return FourCoordinators()


@pytest.fixture
def boards(council: FourCoordinators) -> list[FleetBoard]:
    """Four boards that the chain knows, and a task."""
    made = voters(4)
    council.open(made)
    council.run(2.0)
    return made
