"""How soon coordinators are at work again after faults that are nobody's lie.

`python -m benchmarks.recovery` runs four coordinators as processes over one Mosquitto
(TLS, access rules), while boards publish updates of 1 KB at a steady pace. One after
the other, each on empty folders: `pause` stops one with SIGSTOP; `kill` ends three of
four at once and starts them after 3 s; `backup` puts an old copy of its state, taken
while it ran, under one; `broker` kills Mosquitto every 5 s; `disk` fills the disk of
one (a tmpfs, which only root can mount). Every update must be final in the end, and
`starling chain verify` must hold on each coordinator. JSON goes to
benchmarks/results/recovery.json.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.board_uploads import (
    as_messages,
    board_keys,
    make_uploads,
    task,
)
from benchmarks.harness.coordinator_processes import (
    DEADLINE_S,
    FLEET,
    CoordinatorProcesses,
    quantile,
)
from benchmarks.harness.load_generator import USER
from benchmarks.harness.result_file import keep
from benchmarks.harness.steady_feed import SteadyFeed
from starling.fleet.runtime.processes.supervisor import (
    child_environment,
    starling_command,
)
from starling.fleet.runtime.terminal_screen import terminated_as_interrupted
from starling.protocol.wire.topics import Topics

SIZE = 4
DIMENSION = 900
"""Parameters whose sealed 8-bit update takes about 1 KB."""
HEARTBEAT_S = 10
RATE = 4.0
UPDATES = 1000
CALM_S = 5.0
AWAY_S = 3.0
BROKER_KILLS, BROKER_EVERY_S = 6, 5.0
DISK = "c1"
"""The coordinator whose disk is filled."""
DISK_MIB = 64
SHOWN_S = 1.5
"""Within which a height shows in a status, which is written once a second."""
_POLL_S = 0.05


class Run:
    """One fault on empty folders."""

    def __init__(self, root: Path, name: str, fault_s: float) -> None:
        """Sets everything up.

        Args:
          root: An empty folder.
          name: Of the fault.
          fault_s: How long one is stopped, a disk is full, how old a backup is.
        """
        self._name, self._fault_s = name, fault_s
        self._council = CoordinatorProcesses(root, SIZE, HEARTBEAT_S, {})
        boards = board_keys(UPDATES)
        published = task(DIMENSION, UPDATES, UPDATES)
        council = self._council
        uploads = make_uploads(council.genesis, council.keys(), boards, published.spec)
        self._messages = as_messages(Topics(FLEET), uploads)
        self._boards, self._published = boards, published

    def measure(self) -> dict[str, Any]:
        """The fault, what it cost, and whether anything was lost."""
        council = self._council
        with council.running():
            council.publish(self._published, self._boards)
            port = council.broker.require_settings().port
            feed = SteadyFeed(port, council.loader, USER, FLEET, self._messages)
            feed.start(DEADLINE_S)
            try:
                feed.pace(RATE)
                time.sleep(CALM_S)
                begun_s = time.monotonic()
                over_s = _FAULTS[self._name](self)
                level_s = self._until_level()
                ended_s = time.monotonic()
                time.sleep(CALM_S)
                feed.pace(0.0)
                _wait(lambda: not feed.waiting, "every update final")
            finally:
                feed.stop()
            waits = feed.waits_s(begun_s, ended_s)
        known = sorted(one for one in waits if one is not None)
        assert len(known) == len(waits), "an update was lost"
        return {
            "fault": self._name,
            "seconds": over_s - begun_s,
            "p50_s": quantile(known, 0.5),
            "worst_s": known[-1],
            "again_s": self._first_final(feed, over_s) - over_s,
            "level_s": level_s - over_s,
            "updates": len(waits),
            "verified": sum(self._verifies(at) for at in range(SIZE)),
            "load": os.getloadavg()[0],
        }

    @staticmethod
    def _first_final(feed: SteadyFeed, from_s: float) -> float:
        """When the first update was final that was sent after a moment."""
        sent_s, now_s = from_s, time.monotonic()
        while sent_s < now_s:
            for wait in feed.waits_s(sent_s, sent_s + 1.0):
                if wait is not None:
                    return sent_s + wait
            sent_s += 1.0
        return now_s

    def pause(self) -> float:
        """One stands still; returns when it went on."""
        pid = self._council.pid(1)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self._fault_s)
        os.kill(pid, signal.SIGCONT)
        return time.monotonic()

    def kill(self) -> float:
        """Three of four end at once; returns when they were started again."""
        for at in range(SIZE - 1):
            self._council.kill(at)
        time.sleep(AWAY_S)
        for at in range(SIZE - 1):
            self._council.start(at)
        return time.monotonic()

    def backup(self) -> float:
        """One comes back with an old state; returns when it was started."""
        council = self._council
        state = council.homes[1].state
        kept = state.with_name("kept")
        shutil.copytree(state, kept)
        time.sleep(self._fault_s)
        council.kill(1)
        shutil.rmtree(state)
        kept.rename(state)
        council.start(1)
        return time.monotonic()

    def broker(self) -> float:
        """Mosquitto ends again and again; returns when it ran for good."""
        mosquitto = self._council.mosquitto
        assert mosquitto is not None
        for _ in range(BROKER_KILLS):
            mosquitto.kill()
            mosquitto.start()
            time.sleep(BROKER_EVERY_S)
        return time.monotonic() - BROKER_EVERY_S

    def disk(self) -> float:
        """One has no room left until there is some; returns when it was started."""
        council = self._council
        at = next(n for n, home in enumerate(council.homes) if home.path.name == DISK)
        filler = council.homes[at].path / "filler"
        until_s = time.monotonic() + self._fault_s
        with filler.open("wb", buffering=0) as file:
            while time.monotonic() < until_s and council.runs(at):
                try:
                    file.write(bytes(4096))
                except OSError:
                    time.sleep(_POLL_S)
        time.sleep(max(0.0, until_s - time.monotonic()))
        filler.unlink()
        if council.runs(at):
            return time.monotonic()
        council.kill(at)
        council.start(at)
        return time.monotonic()

    def _until_level(self) -> float:
        """When all vote and nobody is behind."""
        tops: list[tuple[float, int]] = []

        def is_level() -> bool:
            found, now_s = self._council.statuses(), time.monotonic()
            heights = [one["chain"]["height"] for one in found]
            tops.append((now_s, max(heights)))
            votes = all("consensus" in one for one in found) and not any(
                one["consensus"]["silence"] for one in found
            )
            return votes and nobody_is_behind(heights, tops, now_s)

        _wait(is_level, "the coordinators level")
        return time.monotonic()

    def _verifies(self, at: int) -> bool:
        home = str(self._council.homes[at].path)
        command = starling_command("chain", "verify", "--home", home)
        environment = child_environment()
        told = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        if told.returncode:
            print(told.stderr, file=sys.stderr)
        return told.returncode == 0


_FAULTS: dict[str, Callable[[Run], float]] = {
    "pause": Run.pause,
    "kill": Run.kill,
    "backup": Run.backup,
    "broker": Run.broker,
    "disk": Run.disk,
}


def nobody_is_behind(
    heights: Sequence[int], tops: Sequence[tuple[float, int]], now_s: float
) -> bool:
    """Whether each shows by now what was decided somewhere `SHOWN_S` ago.

    Statuses are of different moments of a second, and a busy chain has several heights
    in one: that they differ says nothing.

    Args:
      heights: That each coordinator shows now.
      tops: Moments and the highest that one showed then, in order.
      now_s: The moment of `heights`.
    """
    known = [height for moment_s, height in tops if moment_s <= now_s - SHOWN_S]
    return bool(known) and min(heights) >= known[-1]


def _wait(reached: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not reached():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not in time: {what}")
        time.sleep(_POLL_S)


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A temporary folder, in which one coordinator has a small disk of its own."""
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        if name != "disk":
            yield root
            return
        place = root / DISK
        place.mkdir()
        size = f"size={DISK_MIB}m"
        mount = ("mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place))
        subprocess.run(mount, check=True)
        try:
            yield root
        finally:
            subprocess.run(("umount", "-l", str(place)), check=True)


def main() -> None:
    """Measures, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", nargs="+", choices=_FAULTS, default=list(_FAULTS))
    parser.add_argument("--seconds", type=float, default=30.0, help="of a fault")
    parser.add_argument("--json", action="store_true", help="print JSON, no table")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in options.faults:
        if name == "disk" and os.geteuid():
            print("disk: only root can mount a small disk; left out", file=sys.stderr)
            continue
        with terminated_as_interrupted(), _folder(name) as root:
            rows.append(Run(root, name, options.seconds).measure())
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        keep("recovery", rows)
    if options.json:
        print(json.dumps(rows))
    else:
        _show(rows)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    title = f"four coordinators, {RATE:.0f} updates a second, one fault"
    table = Table(title=title)
    names = ("fault", "s", "p50 s", "worst s", "final again s", "level s")
    for name in (*names, "updates", "chains verified", "load"):
        table.add_column(name, justify="right")
    for row in rows:
        times = [row[key] for key in ("p50_s", "worst_s", "again_s", "level_s")]
        table.add_row(
            row["fault"],
            f"{row['seconds']:.0f}",
            *[f"{one:.2f}" for one in times],
            f"{row['updates']}",
            f"{row['verified']} of {SIZE}",
            f"{row['load']:.1f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
