"""Terminal output of a run: a live view, or a line a version elsewhere."""

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from rich.console import Console
from rich.live import Live

from starling.fleet.monitor.run_snapshot import RunHeading, RunSnapshot
from starling.fleet.monitor.terminal_view import event_line, line, render

_LINE_EVERY_S = 1.0
_QUIET_S = 10.0
"""Where nothing changes, a line comes as often as this, as a sign of life."""


class RunMonitor(Protocol):
    """Observer of a run beside the screen."""

    def look(
        self, heading: RunHeading, snapshot: RunSnapshot, *, is_last: bool = False
    ) -> None:
        """Takes note of what is known now; see `TerminalScreen.show`."""


class TerminalScreen:
    """Shows snapshots on standard error; use it in a `with` block."""

    def __init__(
        self,
        others: Sequence[RunMonitor] = (),
        *,
        quiet: bool = False,
        verbose: bool = False,
    ) -> None:
        """Looks whether standard error is a terminal.

        Args:
          others: Told of each snapshot, too.
          quiet: Whether nothing is shown.
          verbose: Whether each version has its line, also on a terminal.
        """
        self._others, self._is_quiet, self._is_verbose = others, quiet, verbose
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._said_s = float("-inf")
        self._version = -1
        self._events = 0
        self._noted: set[str] = set()

    def __enter__(self) -> "TerminalScreen":
        """Takes the screen, if there is one."""
        if self._console.is_terminal and not (self._is_quiet or self._is_verbose):
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the last view standing."""
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Says what is being done, before there is anything to see."""
        if self._is_quiet:
            return
        self._console.print(text, markup=False, soft_wrap=True)

    def note(self, notes: Iterable[str]) -> None:
        """Says what people should know of the data, each once and before it costs."""
        for each in notes:
            if each not in self._noted:
                self._noted.add(each)
                self.say(f"note: {each}")

    def show(
        self, heading: RunHeading, snapshot: RunSnapshot, *, is_last: bool = False
    ) -> None:
        """Shows what is known now.

        Args:
          heading: What does not change.
          snapshot: Now.
          is_last: Whether this is how the run ended.
        """
        for other in self._others:
            other.look(heading, snapshot, is_last=is_last)
        if self._is_quiet:
            return
        self.note(heading.notes)
        if self._live is not None:
            self._live.update(render(heading, snapshot), refresh=True)
            return
        for event in snapshot.events[self._events :]:
            self.say(event_line(event))
        self._events = len(snapshot.events)
        now_s = time.monotonic()
        quiet_s = now_s - self._said_s
        # A version may take milliseconds in a virtual fleet.
        is_due = self._is_verbose or quiet_s >= _LINE_EVERY_S
        changed = snapshot.version != self._version and is_due
        if changed or is_last or quiet_s >= _QUIET_S:
            self._said_s, self._version = now_s, snapshot.version
            self.say(line(heading, snapshot))


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Makes SIGTERM end a run as Ctrl-C does, with everything cleaned up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
