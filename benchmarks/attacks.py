"""What one liar of four coordinators, or one board, does to finality.

`python -m benchmarks.attacks` runs four coordinators as processes over one Mosquitto
(TLS, access rules), while boards publish updates of 1 KB at a steady pace. The last
coordinator is the product behind a bus that lies as long as a switch is on, so that
calm and attack are measured in turns on the same processes: calm, attack, calm, attack.
Everything that was sent in a part is waited for before the next one begins; what is not
final then counts as stopped. `full` is the flood of requests under as many updates as
go, `board` a board that sends 100 messages a second, `big` a task of 30 MB that is
published meanwhile, without a liar. JSON goes to benchmarks/results/attacks.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.board_uploads import (
    PublishedTask,
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
from benchmarks.harness.flooding_board import write_flood
from benchmarks.harness.load_generator import USER
from benchmarks.harness.result_file import keep
from benchmarks.harness.steady_feed import SteadyFeed
from starling.coordinator.runtime import command_inbox
from starling.fleet.runtime.processes.supervisor import child_environment
from starling.fleet.runtime.terminal_screen import terminated_as_interrupted
from starling.protocol.ids import H, device_name
from starling.protocol.learning.task import TASK
from starling.protocol.wire.envelope import MessageKind, sign
from starling.protocol.wire.topics import Topics

SIZE = 4
DIMENSION = 900
"""Parameters whose sealed 8-bit update takes about 1 KB."""
BUFFER_MAX = 1024
"""Updates of a version, as many as a task may have."""
BIG_DIMENSION = 1_900_000
"""Whose bundle and model, as long as they are not the same bytes twice, take 30 MB."""
HEARTBEAT_S = 10
WAIT_S = 30.0
"""For what was sent in a part, after it; then it counts as stopped."""
SLICE_S = 5.0
SETTLE_S = 2.0
FULL_S = 120.0
FULL_RATE, FULL_OPEN = 1000.0, 200
BOARD_RATE = 100


@dataclass(frozen=True)
class Shape:
    """One attack.

    Attributes:
      lies: What the last coordinator does.
      rate: Updates a second.
      restarts: Whether the broker is restarted in each part: what is lost then, and
        what others say of it, is what some lies live on.
      count: If not 0, a part lasts until so many updates are final.
      long: Whether it is measured for as long as is asked for.
    """

    lies: str
    rate: float = 8.0
    restarts: bool = False
    count: int = 0
    long: bool = False


SHAPES = {
    "lend": Shape("lend", long=True),
    "replay": Shape("replay", restarts=True, long=True),
    "want": Shape("want", long=True),
    "full": Shape("want", FULL_RATE, count=2000),
    "hurry": Shape("hurry", 0.5),
    "garbage": Shape("garbage"),
    "withhold": Shape("withhold"),
    "fickle": Shape("fickle"),
    "root": Shape("root"),
    "empty": Shape("empty"),
    "ask": Shape("ask"),
    "asked": Shape("ask", FULL_RATE, count=2000),
    "forge": Shape("forge"),
    "admit": Shape("admit"),
    "admitted": Shape("admit", FULL_RATE, count=2000),
    "board": Shape("calm", 0.5),
    "big": Shape("calm"),
}


_LONG = ("seconds", "slices")


class Run:
    """One attack on empty folders."""

    def __init__(self, root: Path, name: str, part_s: float) -> None:
        """Sets everything up.

        Args:
          root: An empty folder.
          name: Of the attack.
          part_s: How long each of four parts lasts.
        """
        self._root, self._name, self._part_s = root, name, part_s
        self._shape = SHAPES[name]
        ledger: dict[str, object] = {"ledger.block_interval_s": 0.02}
        self._council = CoordinatorProcesses(root, SIZE, HEARTBEAT_S, ledger)
        paced = int(4.2 * self._shape.rate * (part_s + 1))
        count = (4 * self._shape.count or paced) + 10
        self._boards = board_keys(count)
        self._task = task(DIMENSION, count, min(count, BUFFER_MAX))
        uploads = make_uploads(
            self._council.genesis,
            self._council.keys(),
            self._boards,
            self._task.spec,
        )
        self._messages = as_messages(Topics(FLEET), uploads)
        self._switch = root / "attacks"
        self._counter = count + 10

    def measure(self) -> list[dict[str, Any]]:
        """All parts, calm and attacked in turns."""
        council, rows = self._council, []
        digest = self._task.spec.bundle.hex()
        module = "benchmarks.harness.lying_coordinator"
        home = str(council.homes[-1].path)
        words = (home, self._shape.lies, str(self._switch), digest)
        with council.running((sys.executable, "-m", module, *words)):
            council.publish(self._task, self._boards)
            port = council.broker.require_settings().port
            feed = SteadyFeed(port, council.loader, USER, FLEET, self._messages[:-1])
            feed.start(DEADLINE_S)
            try:
                with self._flooding():
                    for attacked in (False, True, False, True):
                        rows.append(self._part(feed, attacked))
                        self._say(rows[-1])
            finally:
                feed.stop()
        return rows

    def _part(self, feed: SteadyFeed, attacked: bool) -> dict[str, Any]:
        council, shape = self._council, self._shape
        if attacked:
            self._switch.touch()
            if self._name == "big":
                self._publish_big()
        time.sleep(SETTLE_S if self._name != "big" else 0.0)
        height, before_s = self._height(), council.processor_s()
        begun_s = time.monotonic()
        feed.pace(shape.rate, *((FULL_OPEN, shape.count) if shape.count else ()))
        if shape.restarts:
            time.sleep(self._part_s / 3)
            assert council.mosquitto is not None
            council.mosquitto.kill()
            council.mosquitto.start()
        if shape.count:
            feed.wait_idle(FULL_S)
        else:
            time.sleep(max(0.0, begun_s + self._part_s - time.monotonic()))
        ended_s, after_s = time.monotonic(), council.processor_s()
        feed.pace(0.0)
        blocks = self._height() - height
        while feed.waiting and time.monotonic() < ended_s + WAIT_S:
            time.sleep(0.05)
        self._switch.unlink(missing_ok=True)
        waits = feed.waits_s(begun_s, ended_s)
        known = sorted(one for one in waits if one is not None)
        lasted_s = ended_s - begun_s
        honest = range(SIZE - 1)
        used = [100 * (after_s[at] - before_s[at]) / lasted_s for at in honest]
        return {
            "attack": self._name,
            "attacked": attacked,
            "seconds": lasted_s,
            "updates": len(waits),
            "stopped": len(waits) - len(known),
            "p50_s": quantile(known, 0.5) if known else None,
            "p99_s": quantile(known, 0.99) if known else None,
            "worst_s": known[-1] if known else None,
            "slices": self._slices(feed, begun_s, ended_s),
            "final_per_s": feed.final(begun_s, ended_s) / lasted_s,
            "blocks_per_s": blocks / lasted_s,
            "processor_percent": used,
            "named": self._named(),
            "load": os.getloadavg()[0],
        }

    def _slices(
        self, feed: SteadyFeed, begun_s: float, ended_s: float
    ) -> list[tuple[float, float]]:
        """Unix time of each few seconds, and the longest wait that began in them.

        Other work on the machine may have stopped everything for a while: the median
        of the longest waits bears that better than a quantile of all.
        """
        behind_s = time.time() - time.monotonic()
        found = []
        for number in range(int((ended_s - begun_s) / SLICE_S)):
            from_s = begun_s + SLICE_S * number
            waits = feed.waits_s(from_s, from_s + SLICE_S)
            longest = max(
                (WAIT_S if one is None else one for one in waits), default=0.0
            )
            found.append((behind_s + from_s, longest))
        return found

    def _height(self) -> int:
        """The highest, as of a second ago at most."""
        heights = [
            self._council.status(at)["chain"]["height"] for at in range(SIZE - 1)
        ]
        return max(int(height) for height in heights)

    def _named(self) -> list[str]:
        """What the first coordinator says of the liar: refusals, turns, convictions."""
        status, liar = self._council.status(0), self._council.homes[-1].path.name
        peers = [one for one in status["refused_peers"] if one["name"] == liar]
        said = [f"{name} {n}" for one in peers for name, n in one["reasons"].items()]
        deciding = status["consensus"]
        if liar in deciding["passed_over"]:
            said.append("passed over")
        convicted = deciding["convicted"].get(liar)
        return said if convicted is None else [*said, convicted]

    def _say(self, row: dict[str, Any]) -> None:
        """Tells whoever waits how it goes."""
        said = json.dumps({k: v for k, v in row.items() if k not in _LONG})
        print(said, file=sys.stderr, flush=True)

    @contextmanager
    def _flooding(self) -> Iterator[None]:
        """Within it a board floods whenever the switch is on, if that is the attack."""
        if self._name != "board":
            yield
            return
        council, bad = self._council, self._boards[-1]
        name = device_name(bad.identity)
        files = council.broker.certificates.issue_files(name, self._root)
        seed = H(b"board", (len(self._boards) - 1).to_bytes(4))
        chain = council.genesis.chain_id()
        offered = self._task.model.digests().training
        fields: list[object] = [FLEET, str(self._switch), BOARD_RATE, seed, chain]
        fields += [offered, self._messages[-1][1]]
        written = self._root / "flood"
        write_flood(written, council.broker.require_settings().port, files, fields)
        command = [sys.executable, "-m", "benchmarks.harness.flooding_board"]
        child = subprocess.Popen([*command, str(written)], env=child_environment())
        try:
            yield
        finally:
            child.terminate()
            child.wait()

    def _publish_big(self) -> None:
        """Publishes another task, as an operator would."""
        first = self._council.homes[0]
        # Of another size each time, or its parts would be there already.
        self._counter += 1
        big: PublishedTask = task(BIG_DIMENSION + self._counter, 10, 10)
        for part in {big.bundle, *big.model.parts()}:
            command_inbox.drop_blob(first.inbox, part)
        spec = replace(big.spec, name=f"big-{self._counter}")
        chain_id, operator = self._council.genesis.chain_id(), first.operator_key()
        packed = TASK.pack(spec)
        envelope = sign(operator, chain_id, MessageKind.TASK, self._counter, packed)
        command_inbox.drop_transaction(first.inbox, envelope, chain_id)


def main() -> None:
    """Measures, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attacks", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of each of 4 parts"
    )
    parser.add_argument("--minutes", type=float, help="of attack, where it lasts")
    parser.add_argument("--json", action="store_true", help="print JSON, no table")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in options.attacks:
        part_s = options.seconds
        if options.minutes and SHAPES[name].long:
            part_s = 60 * options.minutes / 2
        with terminated_as_interrupted(), tempfile.TemporaryDirectory() as folder:
            rows += Run(Path(folder), name, part_s).measure()
        keep("attacks", rows)
    if options.json:
        print(json.dumps(rows))
    else:
        _show(rows)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    title = "four coordinators, one liar or one flooding board; in turns, as they ran"
    names = ("attack", "", "updates", "stopped", "p50 s", "p99 s", "worst s", "of 5 s")
    table = Table(title=title)
    for name in (*names, "final/s", "blocks/s", "% of a core each", "load"):
        table.add_column(name, justify="right")
    for row in rows:
        waits = [row[key] for key in ("p50_s", "p99_s", "worst_s")]
        longest = sorted(one for _, one in row["slices"])
        waits.append(quantile(longest, 0.5) if longest else None)
        table.add_row(
            row["attack"],
            "attacked" if row["attacked"] else "calm",
            f"{row['updates']}",
            f"{row['stopped']}",
            *["" if one is None else f"{one:.3f}" for one in waits],
            f"{row['final_per_s']:.1f}",
            f"{row['blocks_per_s']:.2f}",
            " ".join(f"{one:.1f}" for one in row["processor_percent"]),
            f"{row['load']:.1f}",
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
