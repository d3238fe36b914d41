"""Lines of a run where there is no terminal, and what they say first."""

from dataclasses import replace

import pytest

from starling.fleet.monitor.run_snapshot import RunHeading, RunSnapshot, VersionPoint
from starling.fleet.runtime.terminal_screen import TerminalScreen

HEADING = RunHeading("digits", 3, None)


def shown(screen: TerminalScreen) -> None:
    snapshot = RunSnapshot(0.0)
    with screen:
        screen.say("keys are made")
        for version in range(1, 4):
            points = (*snapshot.versions, VersionPoint(version, 0.1 * version, 4))
            snapshot = replace(snapshot, versions=points)
            screen.show(HEADING, snapshot)
        screen.show(HEADING, snapshot, is_last=True)


@pytest.mark.parametrize(
    ("quiet", "verbose", "lines"),
    [(False, False, 3), (False, True, 5), (True, False, 0)],
    ids=["usual", "verbose", "quiet"],
)
def test_screen_says_as_much_as_it_was_asked_for(
    capsys: pytest.CaptureFixture[str], quiet: bool, verbose: bool, lines: int
) -> None:
    shown(TerminalScreen(quiet=quiet, verbose=verbose))

    assert len(capsys.readouterr().err.splitlines()) == lines


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
