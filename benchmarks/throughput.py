"""How many updates a second several coordinators make final, against block size.

`python -m benchmarks.throughput` runs coordinators as processes over one Mosquitto with
TLS and access rules, publishes prepared updates of 1 KB from another process, as boards
would, and waits for the proof that each stands in a certified block. For each size of
blocks it prints updates per second, waits from publish to proof, and where processor
time went: in microseconds, and in bare signature verifications of the same machine.
JSON goes to benchmarks/results/throughput.json.
"""

import argparse
import json
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
    used_s,
)
from benchmarks.harness.load_generator import PreparedLoad, run_load
from benchmarks.harness.machine_speed import verifications_per_s
from benchmarks.harness.result_file import keep
from starling.coordinator.chain.storage.block_rows import pack_body
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.chain.blocks import CERTIFICATE, HEADER
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.topics import Topics

DIMENSION = 900
"""Parameters whose sealed 8-bit update takes about 1 KB."""
OPEN_MAX = 500
"""Boards whose update is under way at once: their leases in flight."""
HEARTBEAT_S = 60
SHAPES = ((20, 0.02), (200, 0.02), (1000, 0.02), (1000, 0.1), (1000, 0.25))
"""Most transactions of a block, and least seconds between two of one proposer."""
BUFFER = 1000


def measure(
    root: Path, size: int, updates: int, rate: int, ledger: dict[str, object]
) -> dict[str, Any]:
    """One run on empty folders.

    Args:
      root: An empty folder.
      size: How many coordinators.
      updates: How many are published, each by a board of its own.
      rate: How many a second; 0 for as many as go.
      ledger: Values of `coordinator.toml`, by dotted key.
    """
    council = CoordinatorProcesses(root, size, HEARTBEAT_S, ledger)
    boards = board_keys(updates)
    published = task(DIMENSION, updates, BUFFER)
    uploads = make_uploads(council.genesis, council.keys(), boards, published.spec)
    load = PreparedLoad(
        council.broker.require_settings().port,
        council.loader,
        FLEET,
        (MessageKind.FINAL,),
        rate,
        OPEN_MAX,
        False,
        as_messages(Topics(FLEET), uploads),
    )
    speed = verifications_per_s()
    with council.running() as broker_pid:
        council.publish(published, boards)
        before_s, broker_s = council.processor_s(), used_s(broker_pid)
        height = max(status["chain"]["height"] for status in council.statuses())
        outcome = run_load(load, root, DEADLINE_S)
        after_s, broker_s = council.processor_s(), used_s(broker_pid) - broker_s
        # The status that is awaited here is written once a second.
        time.sleep(1.5)
        rounds = [status["consensus"]["rounds"] for status in council.statuses()]
    used = [after_s[index] - before_s[index] for index in before_s]
    return {
        **ledger,
        "coordinators": size,
        "updates": updates,
        "rate": rate,
        "per_s": updates / outcome.elapsed_s,
        "p50_s": quantile(outcome.waits_s, 0.5),
        "p99_s": quantile(outcome.waits_s, 0.99),
        "processor_us_per_update": [1e6 * each / updates for each in used],
        "broker_us_per_update": 1e6 * broker_s / updates,
        "rounds": max(rounds),
        "verifications_per_s": speed,
        "verifications_each": speed * sum(used) / len(used) / updates,
        **_sizes(council, height, updates),
    }


def _sizes(
    council: CoordinatorProcesses, height: int, updates: int
) -> dict[str, float]:
    """What the chain stores, of the blocks after a height."""
    store = SqliteStore.read(council.homes[0].state / CHAIN_FILE)
    blocks = [store.block(at) for at in range(height + 1, store.height() + 1)]
    store.close()
    found = [each for each in blocks if each is not None]
    bodies = sum(len(pack_body(each.block.transactions)) for each in found)
    heads = sum(len(HEADER.pack(each.block.header)) for each in found)
    proofs = [len(CERTIFICATE.pack(each.certificate)) for each in found]
    return {
        "blocks": len(found),
        "bytes_per_update": bodies / updates,
        "bytes_per_height": (heads + sum(proofs)) / len(found),
        "certificate_bytes": max(proofs),
    }


def main() -> None:
    """Measures, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coordinators", type=int, default=4)
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--rate", type=int, default=0, help="updates a second; 0: most")
    parser.add_argument("--quick", action="store_true", help="one block size only")
    parser.add_argument("--json", action="store_true", help="print JSON, no table")
    options = parser.parse_args()
    rows = []
    for most, interval_s in SHAPES[2:3] if options.quick else SHAPES:
        ledger: dict[str, object] = {
            "ledger.transactions_max": most,
            "ledger.block_interval_s": interval_s,
        }
        with tempfile.TemporaryDirectory() as folder:
            rows.append(
                measure(
                    Path(folder),
                    options.coordinators,
                    options.updates,
                    options.rate,
                    ledger,
                )
            )
        keep("throughput", rows)
    if options.json:
        print(json.dumps(rows))
    else:
        _show(rows)


def _show(rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    print(
        f"{first['updates']} updates, {first['coordinators']} coordinators; one core "
        f"verifies {first['verifications_per_s']:.0f} bare Ed25519 signatures a second"
    )
    table = Table(
        title="goal: >= 1000 updates/s, p50 <= 0.15 s, p99 <= 0.6 s, <= 250 B"
    )
    names = ("block", "every s", "a second", "p50 s", "p99 s", "blocks", "rounds")
    for name in (*names, "us each", "in sigs", "broker us", "B each", "B/height"):
        table.add_column(name, justify="right")
    for row in rows:
        spent = row["processor_us_per_update"]
        table.add_row(
            f"{row['ledger.transactions_max']}",
            f"{row['ledger.block_interval_s']:g}",
            f"{row['per_s']:.0f}",
            f"{row['p50_s']:.3f}",
            f"{row['p99_s']:.3f}",
            f"{row['blocks']}",
            f"{row['rounds']}",
            f"{sum(spent) / len(spent):.0f}",
            f"{row['verifications_each']:.1f}",
            f"{row['broker_us_per_update']:.0f}",
            f"{row['bytes_per_update']:.0f}",
            f"{row['bytes_per_height']:.0f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
