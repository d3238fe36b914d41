"""How many clients a second one process simulates, when training costs nothing.

`python -m benchmarks.virtual` runs virtual fleets whose boards send zeros at once.
Everything else is real: manifest and certificate checked, model pulled in chunks, check
in, lease, ledger, sealing, signatures, admission, chain, aggregation, proofs. What this
process signed itself it need not verify; the whole chain is verified at the end,
without that short cut and outside of the measured time.
"""

import argparse
import sys
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harness.result_file import keep
from starling.compiler import compile_model
from starling.coordinator.task_file.task_settings import publication
from starling.fleet import FleetPlan
from starling.fleet.presets import DataShares, task_settings
from starling.fleet.reference_models import build_model
from starling.fleet.runtime.virtual_run import SIGNATURES_KNOWN, few_collections
from starling.fleet.virtual.fleet_shape import FleetShape
from starling.fleet.virtual.virtual_fleet import VirtualFleet
from starling.fleet.virtual.workload import ZeroWorkload
from starling.protocol.crypto.keys import known_signatures

GOAL_PER_S = 2000
PUBLISHED = {"Flower 1.41 on Ray, 2 cores": 29.0, "NVFlare 2.9 simulator": 0.53}
"""No-op tasks a second, measured earlier on machines of this kind; not run here."""
SHAPES = ((200, 50, 40), (1000, 100, 30), (2000, 500, 8))
_EXAMPLES = 143


def measure(boards: int, buffer: int, versions: int) -> dict[str, Any]:
    """Runs one fleet of boards that do nothing.

    Args:
      boards: How many there are.
      buffer: K, and how many are in flight.
      versions: How many are made.
    """
    plan = FleetPlan(devices=boards, buffer=buffer, privacy="none", leases=buffer)
    shares = DataShares((64,), _EXAMPLES, _EXAMPLES)
    rng = np.random.default_rng(1)
    model = build_model("softmax", shares.shape, 10, rng)
    bundle = compile_model(model, loss="cross-entropy").packed
    task = publication(task_settings(plan, shares), bundle, "task")
    shape = FleetShape(boards, buffer, True, (1.0,) * boards, 0.0)
    fleet = VirtualFleet(shape, task, ZeroWorkload(_EXAMPLES), rng.bytes, rng)
    with few_collections(), known_signatures(SIGNATURES_KNOWN):
        started_s, worked_s = time.perf_counter(), time.process_time()
        while fleet.version < versions:
            fleet.advance()
        wall_s = time.perf_counter() - started_s
        worked_s = time.process_time() - worked_s
    accepted = fleet.snapshot(0.0).accepted
    return {
        "boards": boards,
        "buffer": buffer,
        "versions": versions,
        "clients": accepted,
        "wall_s": wall_s,
        "clients_per_s": accepted / wall_s,
        "clients_per_processor_s": accepted / worked_s,
        "verified": fleet.verify(),
    }


def main() -> int:
    """Prints the table and writes the results."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    found = [measure(*shape) for shape in SHAPES]
    table = Table(title="No-op clients in one process, on one core")
    for name in ("boards", "buffer", "versions", "clients", "a second"):
        table.add_column(name, justify="right")
    for name in ("a processor's second", "goal"):
        table.add_column(name, justify="right")
    for row in found:
        sizes = [str(row[key]) for key in ("boards", "buffer", "versions", "clients")]
        rates = [row["clients_per_s"], row["clients_per_processor_s"]]
        table.add_row(*sizes, *[f"{rate:.0f}" for rate in rates], f"{GOAL_PER_S}")
    for name, rate in PUBLISHED.items():
        table.add_row(f"{name} (published)", "", "", "", f"{rate:g}", "", "")
    Console().print(table)
    results = {"starling": found, "goal_per_s": GOAL_PER_S, "published": PUBLISHED}
    keep("virtual", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
