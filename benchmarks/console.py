"""What a console costs: pages of a large fleet, and viewers beside a busy coordinator.

`python -m benchmarks.console` registers 10,000 boards and has 6,000 of them publish an
update each through a real broker, in turns without a console and with one that ten
viewers look at: they hear that something changed and ask for the overview again, as a
browser does. After each of those turns pages are timed one after the other on the fleet
as it then is, and the bytes of a first visit are counted as they stand on the wire.
JSON goes to benchmarks/results/console.json.
"""

import argparse
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.harness.console_viewers import Viewers, page_s
from benchmarks.harness.result_file import keep
from benchmarks.ingest import Fleet, make_fleet, make_homes, measure
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mosquitto_process import free_port
from starling.coordinator.runtime.home import CoordinatorHome
from starling.fleet.runtime.processes.supervisor import starling_command

PAGES = ("/", "/boards", "/chain", "/tasks", "/metrics")
FIRST_VISIT = ("/", "/assets/style.css", "/assets/live.js", "/assets/icon.svg")
ASKED = 40
"""How often each page is asked for, in each run."""
DEADLINE_S = 60.0
OVERVIEW_GOAL_S = 0.1
FIRST_VISIT_GOAL_KB = 60
SLOWER_GOAL_PERCENT = 3

Runs = list[dict[str, float]]


class ConsoleLooks:
    """What was seen of a console beside a coordinator, over all runs.

    Attributes:
      pages_s: Of each page, the seconds of each answer.
      first_visit_bytes: From the server, for a browser that was never here.
      viewed: Pages that the viewers took while updates came.
    """

    def __init__(self, home: CoordinatorHome, viewers: int) -> None:
        """Nothing is seen yet.

        Args:
          home: Of the coordinator.
          viewers: How many look.
        """
        self.pages_s: dict[str, list[float]] = {path: [] for path in PAGES}
        self.first_visit_bytes = 0
        self.viewed = 0
        self._home = home
        self._viewers = viewers

    @contextmanager
    def beside(self) -> Iterator[None]:
        """A console with viewers during the block; pages are timed after it."""
        with self._console() as port:
            with Viewers(port, self._viewers) as viewers:
                yield
            self.viewed += viewers.pages
            connection = HTTPConnection("127.0.0.1", port)
            for path, times in self.pages_s.items():
                times += [page_s(connection, path) for _ in range(ASKED)]
            connection.close()
            self.first_visit_bytes = sum(_answer_bytes(port, p) for p in FIRST_VISIT)

    @contextmanager
    def _console(self) -> Iterator[int]:
        port, home = free_port(), str(self._home.path)
        words = ("console", "run", "--quiet", "--home", home, "--web", str(port))
        child = subprocess.Popen(starling_command(*words), stdout=subprocess.DEVNULL)
        try:
            _wait_until_open(port)
            yield port
        finally:
            child.terminate()
            child.wait(DEADLINE_S)


def _wait_until_open(port: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
        else:
            return


def _answer_bytes(port: int, path: str) -> int:
    """Bytes of an answer on the wire, head and body."""
    total = 0
    with socket.create_connection(("127.0.0.1", port)) as stream:
        asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        stream.sendall(asked.encode())
        while part := stream.recv(1 << 16):
            total += len(part)
    return total


def compare(
    home: CoordinatorHome, broker: BrokerHome, fleet: Fleet, runs: int, viewers: int
) -> tuple[Runs, Runs, ConsoleLooks]:
    """Takes the same updates in, in turns.

    Returns:
      The runs without a console, those with one, and what was seen of it.
    """
    clean = home.path.parent / "clean"
    shutil.copytree(home.path, clean)
    alone: Runs = []
    watched: Runs = []
    looks = ConsoleLooks(home, viewers)
    for _ in range(runs):
        for done, beside in ((alone, nullcontext), (watched, looks.beside)):
            shutil.rmtree(home.path)
            shutil.copytree(clean, home.path)
            done.append(measure(home, broker, fleet, beside))
    return alone, watched, looks


def _slower_percent(alone: Runs, watched: Runs, key: str) -> float:
    before, after = (
        statistics.median(each[key] for each in runs) for runs in (alone, watched)
    )
    return 100 * (after / before - 1)


def _times(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50_s": statistics.median(ordered),
        "p95_s": ordered[len(ordered) * 95 // 100],
    }


def main() -> None:
    """Measures, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=10_000, help="registered")
    parser.add_argument("--updates", type=int, default=6_000)
    parser.add_argument("--dimension", type=int, default=21_840)
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3, help="of each, in turns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broker, home = make_homes(Path(folder))
        fleet = make_fleet(home, options.dimension, options.updates, options.boards)
        alone, watched, looks = compare(
            home, broker, fleet, options.runs, options.viewers
        )
    report = {
        "boards": options.boards,
        "updates": options.updates,
        "viewers": options.viewers,
        "alone": alone,
        "watched": watched,
        "slower_percent": {
            key: _slower_percent(alone, watched, key)
            for key in ("processor_s", "wall_s")
        },
        "pages": {path: _times(times) for path, times in looks.pages_s.items()},
        "first_visit_bytes": looks.first_visit_bytes,
        "pages_viewed": looks.viewed,
    }
    print(f"{options.boards} boards, {options.updates} updates a run")
    for path, times in looks.pages_s.items():
        goal = f"  (goal {1e3 * OVERVIEW_GOAL_S:.0f})" if path == "/" else ""
        shown = _times(times)
        print(
            f"  {path:<10} p50 {1e3 * shown['p50_s']:6.1f} ms, "
            f"p95 {1e3 * shown['p95_s']:6.1f} ms{goal}"
        )
    print(
        f"  first visit {looks.first_visit_bytes / 1e3:.1f} kB "
        f"(goal {FIRST_VISIT_GOAL_KB})"
    )
    print(
        f"{options.viewers} viewers took {looks.viewed} pages in {options.runs} runs; "
        f"goal {SLOWER_GOAL_PERCENT} % slower at most"
    )
    for key, words in (
        ("processor_s", "the coordinator's processor"),
        ("wall_s", "the clock, all on this machine"),
    ):
        print(f"  {_slower_percent(alone, watched, key):+5.1f} % on {words}")
    keep("console", report)


if __name__ == "__main__":
    main()
