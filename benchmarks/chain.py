"""What a long chain costs: checking it, starting with it, catching up, keeping it.

A chain of four coordinators is made without consensus, one update in each block. Then
`chain verify` runs over it, alone and with further processes; the bare signatures of
the same chain, and bare inserts of rows of the same size into SQLite, are the floors.
Two coordinator processes over one Mosquitto show how fast an empty one catches up, by
blocks and from a snapshot; the clock runs from the start of its process.
JSON goes to benchmarks/results/chain.json.
"""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.coordinator_processes import CoordinatorProcesses
from benchmarks.harness.result_file import keep
from benchmarks.harness.synthetic_chain import GROUP, SyntheticChain, of_nobody, write
from starling.coordinator.chain.storage.block_rows import unpack_body
from starling.coordinator.chain.storage.snapshot import (
    SNAPSHOT_BLOCKS,
    bucketed,
    pack_bucket,
)
from starling.coordinator.chain.verification.audit import audit
from starling.coordinator.runtime.signature_pool import SignaturePool
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE, configure
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.chain.blocks import CERTIFICATE, check_certificate
from starling.protocol.chain.genesis import FaultModel
from starling.protocol.crypto.state_tree import bucket_root
from starling.protocol.wire.envelope import ENVELOPE

VALIDATORS = 4
HEARTBEAT_S = 60
_RESTART = """
import sys, time
from pathlib import Path
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
began_s = time.perf_counter()
tip = SqliteStore.open(Path(sys.argv[1])).tip()
wall_s = time.perf_counter() - began_s
status = Path("/proc/self/status").read_text()
print(wall_s, 1024 * int(status.partition("VmHWM:")[2].split()[0]))
"""


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor time of some work, in seconds."""
    wall_s, used_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall_s, time.process_time() - used_s


def _rate(blocks: int, took: tuple[float, float]) -> dict[str, float]:
    wall_s, used_s = took
    return {
        "wall_s": round(wall_s, 3),
        "processor_s": round(used_s, 3),
        "blocks_per_s": round(blocks / wall_s),
    }


def verify(path: Path) -> dict[str, Any]:
    """`chain verify`, alone and with a process for each further core."""
    store = SqliteStore.read(path)
    blocks = store.height()

    def check(processes: int | None) -> None:
        with SignaturePool(store.genesis, processes) as pool:
            assert audit(store, lambda _: None, pool.ahead).fault is None

    found = {
        "signatures_only": _rate(blocks, _timed(lambda: _signatures(store))),
        "one_process": _rate(blocks, _timed(lambda: check(0))),
        "all_cores": _rate(blocks, _timed(lambda: check(None))),
    }
    store.close()
    return found


def _signatures(store: SqliteStore) -> None:
    """The floor: every signature of the chain, and nothing else."""
    genesis = store.genesis
    chain_id, model = genesis.chain_id(), FaultModel(genesis.fault_model)
    for row in store.rows():
        certificate = CERTIFICATE.unpack(row.certificate)
        check_certificate(certificate, chain_id, genesis.validators, model)
        for packed in unpack_body(row.body):
            ENVELOPE.unpack(packed).check(chain_id)


def restart(path: Path) -> dict[str, Any]:
    """Opening the chain as a start does, in a process of its own."""
    command = [sys.executable, "-c", _RESTART, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    said = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout.split()
    return {"wall_s": round(float(said[0]), 4), "rss_bytes": int(said[1])}


def snapshot(path: Path) -> dict[str, Any]:
    """What a copy of the state costs, once in so many blocks."""
    store = SqliteStore.read(path)
    state = dict(store.tip().tree.items())
    store.close()
    packed: list[bytes] = []

    def copy() -> None:
        for entries in bucketed(state):
            bucket_root(entries)
            packed.append(pack_bucket(entries))

    wall_s, used_s = _timed(copy)
    return {
        "entries": len(state),
        "bytes": sum(map(len, packed)),
        "wall_s": round(wall_s, 4),
        "processor_s": round(used_s, 4),
    }


def inserts(path: Path, root: Path) -> dict[str, Any]:
    """The floor of storing: the same rows into a bare table, as many at once."""
    store = SqliteStore.read(path)
    rows = [(r.height, r.header, r.body, r.certificate) for r in store.rows()]
    store.close()
    connection = sqlite3.connect(root / "bare", isolation_level=None)
    configure(connection)
    connection.execute("CREATE TABLE blocks (h INTEGER PRIMARY KEY, a, b, c)")

    def insert() -> None:
        for start in range(0, len(rows), GROUP):
            connection.execute("BEGIN")
            part = rows[start : start + GROUP]
            connection.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?)", part)
            connection.execute("COMMIT")

    took = _timed(insert)
    connection.close()
    return _rate(len(rows), took)


def catch_up(root: Path, blocks: int, pruned: int) -> dict[str, Any]:
    """One process has the chain, another one starts with nothing.

    Args:
      root: An empty folder.
      blocks: Of the chain.
      pruned: Up to this height the first one has no transactions any more.
    """
    council = CoordinatorProcesses(root, VALIDATORS, HEARTBEAT_S, {})
    operator = council.homes[0].operator_key()
    chain = SyntheticChain(council.genesis, council.keys(), operator)
    store = write(council.homes[0].state / CHAIN_FILE, chain, blocks)
    with store.transaction():
        store.prune(pruned)
    store.close()
    with council.broker.process():
        try:
            began_s = time.perf_counter()
            council.start(0)
            council.wait(lambda status: status["broker"] == "connected")
            boot_s = time.perf_counter() - began_s
            before_s = council.processor_s()
            began_s = time.perf_counter()
            council.start(1)
            council.wait(lambda status: status["chain"]["height"] >= blocks)
            wall_s = time.perf_counter() - began_s
            after_s = council.processor_s()
        finally:
            council.end()
    return {
        "boot_s": round(boot_s, 2),
        "wall_s": round(wall_s, 2),
        "blocks_per_s": round(blocks / wall_s),
        "processor_s": round(after_s[1], 2),
        "processor_s_of_the_other": round(after_s[0] - before_s[0], 2),
    }


def measure(root: Path, blocks: int) -> dict[str, Any]:
    """All of it."""
    path = root / "chain"
    made = _timed(lambda: write(path, of_nobody(VALIDATORS), blocks).close())
    size = path.stat().st_size
    return {
        "blocks": blocks,
        "validators": VALIDATORS,
        "load": round(os.getloadavg()[0], 1),
        "bytes_per_height": round(size / blocks),
        "made": _rate(blocks, made),
        "bare_inserts": inserts(path, root),
        "verify": verify(path),
        "restart": restart(path),
        "snapshot": snapshot(path),
        "catch_up": catch_up(root / "council", blocks, 0),
        "from_snapshot": catch_up(root / "pruned", blocks, blocks - SNAPSHOT_BLOCKS),
    }


def _show(found: dict[str, Any]) -> None:
    title = f"{found['blocks']} blocks of 4 coordinators, load {found['load']}"
    table = Table("what", "wall s", "processor s", "blocks/s", title=title)
    for name in ("signatures_only", "one_process", "all_cores"):
        entry = found["verify"][name]
        table.add_row(f"verify: {name}", *(str(value) for value in entry.values()))
    for name in ("made", "bare_inserts"):
        table.add_row(name, *(str(value) for value in found[name].values()))
    for name in ("catch_up", "from_snapshot"):
        entry = found[name]
        shown = (entry[key] for key in ("wall_s", "processor_s", "blocks_per_s"))
        table.add_row(name, *map(str, shown))
    table.add_row("restart", str(found["restart"]["wall_s"]), "", "")
    console = Console()
    console.print(table)
    megabytes = found["restart"]["rss_bytes"] / 1e6
    copied = found["snapshot"]
    console.print(
        f"snapshot: {copied['entries']} entries, {copied['bytes']} bytes, "
        f"{copied['processor_s']} s"
    )
    console.print(
        f"{found['bytes_per_height']} bytes per height, {megabytes:.0f} MB at restart"
    )


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    for name in ("council", "pruned"):
        (root / name).mkdir()
    try:
        found = measure(root, arguments.blocks)
    finally:
        shutil.rmtree(root)
    keep("chain", found)
    if arguments.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        _show(found)


if __name__ == "__main__":
    main()
