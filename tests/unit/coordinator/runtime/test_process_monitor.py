"""What the core says reaches the log at its level."""

import logging

import pytest

from starling.coordinator.runtime.process_monitor import level_of
from starling.coordinator.step.effects import LogLine


@pytest.mark.parametrize(
    ("line", "level"),
    [
        (LogLine("said"), logging.INFO),
        (LogLine("got worse", warns=True), logging.WARNING),
        (LogLine("forked", grave=True), logging.ERROR),
        (LogLine("forked", grave=True, warns=True), logging.ERROR),
    ],
)
def test_level_of_a_line_is_that_of_what_is_to_be_done(
    line: LogLine, level: int
) -> None:
    assert level_of(line) == level
