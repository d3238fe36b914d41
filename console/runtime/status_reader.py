"""Reader of a coordinator's status file, with what its past tells."""

import json
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from starling.console import status_facts
from starling.console.event_log import EventLog, differences
from starling.console.status_facts import StatusFacts
from starling.coordinator.runtime.status.status_reader import STATUS_BYTES_MAX
from starling.durable.files import read_if_present
from starling.protocol.errors import FederationError, OperationError

RATE_WINDOW_S = 60.0
_SAMPLES_MAX = 120


class StatusReader:
    """Reads the status again whenever it changed; `look` belongs to one thread.

    Attributes:
      trouble: Why there is no status; empty if there is one.
      events: What changed.
      changes: Number of statuses that were read.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Nothing is known yet.

        Args:
          path: `status.json`.
          clock: Unix time, in seconds.
        """
        self.trouble = f"{path} is not there yet: has the coordinator run?"
        self.events = EventLog()
        self.changes = 0
        self._path = path
        self._clock = clock
        self._stamp: tuple[int, int, int] | None = None
        self._facts: StatusFacts | None = None
        self._written_s = 0.0
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES_MAX)

    def look(self) -> bool:
        """Reads the file if it changed; returns whether it did."""
        try:
            found = self._path.stat()
        except OSError:
            return False
        # The inode, too: each write is a new file, and two may fall into one tick of
        # the clock.
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp == self._stamp:
            return False
        try:
            facts = self._read()
        except FederationError as error:
            self.trouble, self._facts, self._stamp = str(error), None, stamp
            return True
        if facts is None:
            # In the middle of being written; the next look sees it whole.
            return False
        if self._facts is not None:
            self.events.add(differences(self._facts, facts))
        self._facts, self._stamp, self.trouble = facts, stamp, ""
        self._written_s = found.st_mtime
        self._samples.append((facts.document["now_ms"] / 1000, facts.accepted))
        self.changes += 1
        return True

    def facts(self) -> StatusFacts | None:
        """The last status with its age now."""
        known = self._facts
        if known is None:
            return None
        # By the file's own time: what a hung coordinator last wrote of its age does not
        # grow.
        age_s = max(0.0, self._clock() - self._written_s)
        return StatusFacts(known.document, age_s, known.tasks, known.boards)

    def updates_a_minute(self) -> float | None:
        """Rate of accepted updates over the last minute; None while it is not known."""
        if len(self._samples) < 2:
            return None
        last_s, last = self._samples[-1]
        first_s, first = next(
            (each for each in self._samples if each[0] >= last_s - RATE_WINDOW_S),
            self._samples[-1],
        )
        # A coordinator that began anew counts from what it had written last, or from
        # nothing.
        if last_s <= first_s or last < first:
            return None
        return 60 * (last - first) / (last_s - first_s)

    def _read(self) -> StatusFacts | None:
        content = read_if_present(self._path, STATUS_BYTES_MAX)
        if content is None:
            return None
        try:
            document = json.loads(content)
        except ValueError:
            return None
        if not isinstance(document, dict):
            raise OperationError(f"{self._path}: not a status")
        return status_facts.read(document, 0.0)
