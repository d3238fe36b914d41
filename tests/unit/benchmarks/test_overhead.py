"""`benchmarks.overhead` reads the boards' logs as the product writes them."""

import logging
from pathlib import Path

import pytest

from benchmarks.overhead import trained_times_s
from starling.service.log_lines import formatter

DESCRIPTOR_OF_A_FILE = 1


def logged(message: str, created_s: float) -> str:
    said = logging.makeLogRecord({"name": "agent", "msg": message})
    said.created = created_s
    said.msecs = created_s % 1 * 1000
    said.levelname = "INFO"
    return formatter(DESCRIPTOR_OF_A_FILE, {}).format(said) + "\n"


def test_moments_of_all_boards_rise(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "board-000.log").write_text(
        logged("version 0 trained; 1124 bytes spooled", 1_700_000_000.25)
        + logged("version 1 is used for inference", 1_700_000_001.5)
        + logged("version 1 trained; 1124 bytes spooled", 1_700_086_400.5)
    )
    (logs / "board-001.log").write_text(
        logged("version 0 trained; 1124 bytes spooled", 1_700_000_000.125)
    )

    found = trained_times_s(tmp_path)

    expected = [1_700_000_000.125, 1_700_000_000.25, 1_700_086_400.5]
    assert found == pytest.approx(expected, abs=0.001)
