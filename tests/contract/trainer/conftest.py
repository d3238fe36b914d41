"""A trainer's process for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.trainer.asked_trainer import Process


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """A trainer that is ended with the test."""
    found = Process(tmp_path)
    yield found
    found.trainer.stop()
