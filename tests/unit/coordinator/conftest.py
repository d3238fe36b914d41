"""Four coordinators in memory."""

from collections.abc import Iterator

import pytest

from tests.unit.coordinator.council import Council, Voter, voters


@pytest.fixture
def council() -> Iterator[Council]:
    """All run; the chain has no block yet."""
    made = Council()
    yield made
    made.close()


@pytest.fixture
def boards(council: Council) -> list[Voter]:
    """Four boards that the chain knows, and a task."""
    made = voters(4)
    council.open(made)
    council.run(2.0)
    return made
