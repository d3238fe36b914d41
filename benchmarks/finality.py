"""How long an update takes to be final, by the number of coordinators.

`python -m benchmarks.finality` runs coordinators as processes over one Mosquitto (TLS,
access rules). Boards publish updates of 1 KB at a quiet pace; each waits for the proof
that its update stands in a certified block. Then one coordinator is killed, so that
proposals are missing, and it goes on; then nothing happens for a while, and what idle
coordinators use is measured; then one is started again. JSON goes to
benchmarks/results/finality.json.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.board_uploads import as_messages, board_keys, make_uploads, task
from benchmarks.harness.coordinator_processes import (
    DEADLINE_S,
    FLEET,
    CoordinatorProcesses,
    quantile,
)
from benchmarks.harness.load_generator import LoadOutcome, PreparedLoad, run_load
from benchmarks.harness.machine_speed import verifications_per_s
from benchmarks.harness.result_file import keep
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.chain.blocks import CERTIFICATE, HEADER
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.topics import Topics

SIZES = (1, 4, 7, 13)
DIMENSION = 900
"""Parameters whose sealed 8-bit update takes about 1 KB."""
RATE = 20
HEARTBEAT_S = 5
BUFFER = 1024


class Run:
    """One size's measurement on empty folders."""

    def __init__(self, root: Path, size: int, updates: int, idle_s: float) -> None:
        """Sets the council up.

        Args:
          root: An empty folder.
          size: How many coordinators.
          updates: How many each of the three loads publishes.
          idle_s: How long nothing happens.
        """
        self._root, self._updates, self._idle_s = root, updates, idle_s
        self._council = CoordinatorProcesses(root, size, HEARTBEAT_S, {})
        self._boards = board_keys(3 * updates)
        self._published = task(DIMENSION, len(self._boards), BUFFER)
        uploads = make_uploads(
            self._council.genesis,
            self._council.keys(),
            self._boards,
            self._published.spec,
        )
        self._messages = as_messages(Topics(FLEET), uploads)

    def measure(self) -> dict[str, Any]:
        """All of it."""
        council = self._council
        size = len(council.homes)
        speed = verifications_per_s()
        self._say("starts")
        with council.running():
            council.publish(self._published, self._boards)
            first = self._height()
            self._say(f"{self._updates} updates")
            quiet = self._load(overhears=True)
            heights = self._height() - first
            syncs = self._syncs()
            idle = self._idle()
            found: dict[str, Any] = {
                "coordinators": size,
                "processes": size,
                "verifications_per_s": speed,
                "p50_s": quantile(quiet.waits_s, 0.5),
                "p99_s": quantile(quiet.waits_s, 0.99),
                "gossip_per_height": quiet.gossip / heights,
                "gossip_bytes_per_height": quiet.gossip_bytes / heights,
                "syncs_per_height": syncs,
                **idle,
                "restart_s": self._restart(),
            }
            if size > 1:
                found |= self._without_one()
        return {**found, **self._sizes()}

    def _say(self, part: str) -> None:
        """Tells whoever waits what begins."""
        print(f"n = {len(self._council.homes)}: {part}", file=sys.stderr, flush=True)

    def _load(self, overhears: bool = False) -> LoadOutcome:
        part, self._messages = (
            self._messages[: self._updates],
            self._messages[self._updates :],
        )
        council = self._council
        port = council.broker.require_settings().port
        load = PreparedLoad(
            port,
            council.loader,
            FLEET,
            (MessageKind.FINAL,),
            RATE,
            1000,
            overhears,
            part,
        )
        outcome = run_load(load, self._root, DEADLINE_S)
        # The status that is looked at afterwards is written once a second.
        time.sleep(1.5)
        return outcome

    def _height(self) -> int:
        return max(int(each["chain"]["height"]) for each in self._council.statuses())

    def _syncs(self) -> float | None:
        """Synced writes of one coordinator per height, if strace is there to count."""
        tracer = shutil.which("strace")
        if tracer is None:
            return None
        self._say(f"{self._updates} updates, synced writes counted")
        first = self._height()
        watched = ("-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", "signal=none")
        where = ("-o", str(self._root / "syncs"), "-p", str(self._council.pid(0)))
        counting = subprocess.Popen([tracer, *watched, *where])
        self._load()
        heights = self._height() - first
        counting.terminate()
        counting.wait()
        lines = (self._root / "syncs").read_text().splitlines()
        return sum("sync(" in line for line in lines) / heights

    def _idle(self) -> dict[str, Any]:
        self._say(f"idle for {self._idle_s:.0f} s")
        time.sleep(2)
        before_s, first = self._council.processor_s(), self._height()
        time.sleep(self._idle_s)
        after_s = self._council.processor_s()
        blocks = self._height() - first
        used = [after_s[index] - before_s[index] for index in before_s]
        return {
            "idle_percent": [100 * each / self._idle_s for each in used],
            "idle_blocks_per_minute": 60 * blocks / self._idle_s,
        }

    def _restart(self) -> float:
        """From the start of a killed coordinator until it is at work again."""
        self._say("restart of one")
        council = self._council
        height = self._height()
        council.kill(0)
        begun_s = time.monotonic()
        council.start(0)
        council.wait(
            lambda status: (
                status["broker"] == "connected" and status["chain"]["height"] >= height
            )
        )
        return time.monotonic() - begun_s

    def _without_one(self) -> dict[str, float]:
        self._say(f"one is killed, {self._updates} updates")
        self._council.kill(0)
        time.sleep(5)
        outcome = self._load()
        return {
            "dead_p50_s": quantile(outcome.waits_s, 0.5),
            "dead_p99_s": quantile(outcome.waits_s, 0.99),
        }

    def _sizes(self) -> dict[str, float]:
        store = SqliteStore.read(self._council.homes[-1].state / CHAIN_FILE)
        last = store.block(store.height())
        store.close()
        assert last is not None
        return {
            "header_bytes": len(HEADER.pack(last.block.header)),
            "certificate_bytes": len(CERTIFICATE.pack(last.certificate)),
        }


def main() -> None:
    """Measures, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinators", type=int, nargs="+", default=SIZES)
    parser.add_argument("--updates", type=int, default=200, help="of each of 3 loads")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds")
    parser.add_argument("--json", action="store_true", help="print JSON, no table")
    options = parser.parse_args()
    rows = []
    for size in options.coordinators:
        with tempfile.TemporaryDirectory() as folder:
            run = Run(Path(folder), size, options.updates, options.idle)
            rows.append(run.measure())
        # After each, since on a busy machine the many may never get ready.
        keep("finality", rows)
    if options.json:
        print(json.dumps(rows))
    else:
        _show(rows)


def _show(rows: list[dict[str, Any]]) -> None:
    title = (
        f"{RATE} updates/s, from publish to proof, one Mosquitto; one core verifies "
        f"{rows[0]['verifications_per_s']:.0f} Ed25519 signatures a second"
    )
    table = Table("", *[f"n = {row['coordinators']}" for row in rows], title=title)
    lines = (
        ("finality p50, s (goal 0.15 at n = 4)", "p50_s", ".3f"),
        ("finality p99, s (goal 0.6 at n = 4)", "p99_s", ".3f"),
        ("p50 with one dead, s", "dead_p50_s", ".3f"),
        ("p99 with one dead, s", "dead_p99_s", ".3f"),
        ("gossip messages per height", "gossip_per_height", ".1f"),
        ("gossip bytes per height", "gossip_bytes_per_height", ".0f"),
        ("fsyncs of one per height", "syncs_per_height", ".1f"),
        ("header, bytes", "header_bytes", "d"),
        ("certificate, bytes (goal 260 at n = 4)", "certificate_bytes", "d"),
        ("idle, % of a core each (goal < 1)", "idle_percent", ".2f"),
        ("idle, blocks a minute", "idle_blocks_per_minute", ".1f"),
        ("restart, s", "restart_s", ".2f"),
    )
    for text, key, form in lines:
        found = [row.get(key) for row in rows]
        shown = [max(each) if isinstance(each, list) else each for each in found]
        table.add_row(
            text, *["" if one is None else format(one, form) for one in shown]
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
