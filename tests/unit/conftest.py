"""What tests of several packages share: a broker that is not there."""

from pathlib import Path

import pytest


@pytest.fixture
def fake_mosquitto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that only tells a version, so that these tests need no broker."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "mosquitto"
    program.write_text("#!/bin/sh\necho 'mosquitto version 2.0.11'\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    return program
