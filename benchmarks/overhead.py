"""What the framework itself takes: from a trained update to the finalised version.

`python -m benchmarks.overhead` runs six real agents, a coordinator and Mosquitto on
loopback, K = 3, training a softmax regression whose step takes milliseconds. From the
agents' logs come the moments at which an update was trained, from the coordinator's
status those at which a version became final, on the one clock of this machine. Update
i in the order of training belongs to version i // K + 1, since versions take K updates
in the order in which they come.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.result_file import keep
from starling.fleet import FleetPlan
from starling.fleet.runtime.process_run import run_processes
from starling.fleet.runtime.terminal_screen import TerminalScreen

DEVICES, BUFFER, VERSIONS = 6, 3, 60
GOAL_S = 0.3
FLOWER_S = 10.6
"""Flower 1.41, 3 agents, each phase; measured earlier on two cores of this kind."""
_TRAINED = re.compile(r"^([\d-]+ [\d:]+\.\d{3}) .* version \d+ trained;", re.MULTILINE)
_WARM_UP = 5


def trained_times_s(home: Path) -> list[float]:
    """Unix times at which any board had trained an update, rising."""
    moments = []
    for log in home.glob("logs/board-*.log"):
        for said in _TRAINED.findall(log.read_text()):
            # A log has the time of this machine.
            moment = datetime.strptime(said, "%Y-%m-%d %H:%M:%S.%f").astimezone()
            moments.append(moment.timestamp())
    return sorted(moments)


def final_times_s(home: Path) -> list[float]:
    """Unix times at which versions 1, 2, ... became final."""
    status = json.loads((home / "coordinator" / "status.json").read_text())
    rows = status["tasks"][0]["versions"][1:]
    assert all(row["updates"] == BUFFER for row in rows)
    return [row["time_ms"] / 1000 for row in rows]


def measure(home: Path) -> dict[str, Any]:
    """Runs the fleet and takes the times.

    Returns:
      Medians and 95th percentiles in seconds.
    """
    plan = FleetPlan(
        devices=DEVICES, buffer=BUFFER, leases=DEVICES, until_version=VERSIONS
    )
    run_processes(plan, home, TerminalScreen())
    trained, final = trained_times_s(home), final_times_s(home)
    counted = range(_WARM_UP * BUFFER, min(len(final) * BUFFER, len(trained)))
    every = [final[i // BUFFER] - trained[i] for i in counted]
    last = [
        final[i // BUFFER] - trained[i] for i in counted if i % BUFFER == BUFFER - 1
    ]
    return {
        "devices": DEVICES,
        "buffer": BUFFER,
        "updates": len(every),
        "update_to_final_s": _quantiles(every),
        "full_buffer_to_final_s": _quantiles(last),
        "goal_s": GOAL_S,
        "flower_per_phase_s": FLOWER_S,
    }


def _quantiles(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=20)
    return {"median": statistics.median(seconds), "p95": cuts[-1]}


def main() -> int:
    """Prints the table and writes the results."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder) / "home")
    table = Table(title=f"{DEVICES} real agents, K = {BUFFER}, loopback")
    for name in ("from", "to", "median s", "95 % s", "goal s"):
        table.add_column(name)
    rows = (
        ("update trained", "update_to_final_s", f"{GOAL_S}"),
        ("last update of the buffer trained", "full_buffer_to_final_s", ""),
    )
    for text, key, goal in rows:
        median, p95 = found[key]["median"], found[key]["p95"]
        table.add_row(text, "version final", f"{median:.3f}", f"{p95:.3f}", goal)
    published = f"about {FLOWER_S}"
    table.add_row("Flower 1.41, 3 agents (published, not run)", "phase over", published)
    Console().print(table)
    keep("overhead", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
