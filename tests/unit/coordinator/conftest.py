"""Four coordinators in memory."""

from collections.abc import Iterator

import pytest

from tests.unit.coordinator.council import Council


@pytest.fixture
def council() -> Iterator[Council]:
    """All run; the chain has no block yet."""
    made = Council()
    yield made
    made.close()
