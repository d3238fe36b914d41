"""Logs of a run for other tools, written while it runs: `--log tensorboard:DIR`."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from starling.durable.files import storage_errors
from starling.fleet.monitor.run_snapshot import RunHeading, RunSnapshot
from starling.fleet.report import event_file
from starling.protocol.errors import ConfigError

TENSORBOARD = "tensorboard"


class EventLog:
    """An event file of TensorBoard that grows by a record for each version."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        """Begins a file.

        Args:
          folder: Made if it does not exist.
          clock: Unix time, in seconds.

        Raises:
          StorageError: If the disk refuses.
        """
        now_s = clock()
        # Its readers find files by this name, and read them in order of the time.
        self._path = folder / f"events.out.tfevents.{now_s:.6f}.starling.{os.getpid()}"
        self._clock = clock
        self._written = -1
        with storage_errors(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(event_file.begin(now_s))

    def look(
        self, heading: RunHeading, snapshot: RunSnapshot, *, is_last: bool = False
    ) -> None:
        """Writes the versions that are evaluated; at the end all.

        Args:
          heading: Of the run.
          snapshot: Now.
          is_last: Whether this is how the run ended.

        Raises:
          StorageError: If the disk refuses.
        """
        del heading
        begun_s = self._clock() - snapshot.time_s
        evaluated = [p.version for p in snapshot.versions if p.loss is not None]
        until = snapshot.version if is_last else max(evaluated, default=-1)
        fresh = [p for p in snapshot.versions if self._written < p.version <= until]
        records = [
            event_file.scalars(
                begun_s + point.time_s, point.version, event_file.version_scalars(point)
            )
            for point in fresh
        ]
        if records:
            with storage_errors(self._path), self._path.open("ab") as file:
                file.write(b"".join(records))
            self._written = fresh[-1].version


def event_logs(asked: list[str]) -> list[EventLog]:
    """Logs of the values of `--log`.

    Raises:
      ConfigError: If one names no kind of log that there is, or no folder.
      StorageError: If the disk refuses.
    """
    made = []
    for text in asked:
        kind, _, place = text.partition(":")
        if kind != TENSORBOARD or not place:
            raise ConfigError(f"{text!r} is not {TENSORBOARD}:DIR", key="--log")
        made.append(EventLog(Path(place)))
    return made
