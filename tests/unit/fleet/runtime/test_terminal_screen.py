"""What the screen says before and while a fleet runs."""

import pytest

from starling.fleet.monitor.run_snapshot import RunHeading, RunSnapshot
from starling.fleet.runtime.terminal_screen import TerminalScreen


def test_notes_about_the_data_come_first_and_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    heading = RunHeading("own", 4, None, notes=("a column is large", "classes are few"))

    with TerminalScreen() as screen:
        screen.note(heading.notes[:1])
        screen.show(heading, RunSnapshot(0.0))
        screen.show(heading, RunSnapshot(0.0), is_last=True)

    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["note: a column is large", "note: classes are few"]
    assert sum(line.startswith("note: ") for line in lines) == 2
