"""A broker with an enrolment door."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.coordinator.enrolment_programs import Door
from tests.e2e.required_mosquitto import require_mosquitto


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    require_mosquitto()
    made = Door(tmp_path)
    with made.stack:
        yield made
