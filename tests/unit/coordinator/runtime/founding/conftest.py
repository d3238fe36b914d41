"""Folders of two brokers, made once; each test has a copy."""

from pathlib import Path

import pytest

from tests.unit.coordinator.runtime.founding.parties import (
    Parties,
    copied,
    make_brokers,
)


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two brokers' folders; to be copied."""
    path = tmp_path_factory.mktemp("brokers")
    make_brokers(path)
    return path


@pytest.fixture
def three(brokers: Path, tmp_path: Path) -> Parties:
    """A founding of three."""
    return Parties(copied(brokers, tmp_path), 3)


@pytest.fixture
def two(brokers: Path, tmp_path: Path) -> Parties:
    """A founding of two."""
    return Parties(copied(brokers, tmp_path), 2)
