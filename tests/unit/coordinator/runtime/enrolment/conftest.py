"""A registrar's handler."""

from pathlib import Path

import pytest

from tests.unit.coordinator.runtime.enrolment.registrar_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
