"""What a board costs as a service: memory, disk, and the time until it is connected.

`python -m tests.deploy.machines.measure_board [SECONDS]`, as root, boots a server and a
board as the tests do, has the board train the CNN of 21,840 parameters on 64 pictures
with micro-batches of 16, and prints a line a number. PSS shares a page among the
processes that map it, and the machine's only Python is the agent's; what the machine
below has mapped is another file.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from starling.fleet.reference_models import build_model
from tests.deploy.machines import machine_images
from tests.deploy.machines.deployed_fleet import (
    AGENT_UNIT,
    HOME,
    DeployedFleet,
    agent_status,
    final,
)
from tests.deploy.machines.nspawn_machine import NspawnMachine

SECONDS = 120.0
RECORDS = 64
STARTS = 5
SHAPE, CLASSES = (1, 28, 28), 10
_PROBE = """
import pathlib, sys, time
main, seconds, step = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
proc = pathlib.Path("/proc")

def pss(pid):
    try:
        lines = (proc / pid / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(it.split()[1]) for it in lines if it.startswith("Pss:"))

def family():
    found = [main]
    for pid in found:
        for tasks in (proc / pid / "task").glob("*/children"):
            try:
                found += tasks.read_text().split()
            except OSError:
                pass
    return found

def written():
    lines = (proc / main / "io").read_text().splitlines()
    return sum(int(it.split()[1]) for it in lines if it.startswith("write_bytes"))

until, before, least, most = time.monotonic() + seconds, written(), 1 << 62, 0
while time.monotonic() < until:
    now = sum(map(pss, family()))
    least, most = min(least, now), max(most, now)
    time.sleep(step)
print(least, most, written() - before)
"""


def write_digits(folder: Path, seed: int) -> None:
    """Random pictures of the size of MNIST's; what they show costs nothing."""
    rng = np.random.default_rng(seed)
    x = rng.random((RECORDS, *SHAPE), dtype=np.float32)
    folder.mkdir(parents=True)
    np.savez(folder / "digits.npz", x=x, y=rng.integers(CLASSES, size=RECORDS))


def probe(board: NspawnMachine, seconds: float, step_s: float) -> tuple[int, ...]:
    """Least and largest PSS in KiB of the agent with its trainer, and bytes written."""
    pid = str(board.main_pid(AGENT_UNIT))
    words = ["python3", "-", pid, str(seconds), str(step_s)]
    return tuple(map(int, board.run(*words, given=_PROBE).split()))


def set_up(board: NspawnMachine, *changes: tuple[str, str]) -> None:
    """Changes settings of the board, and starts it anew."""
    file = board.root / HOME.lstrip("/") / "agent.toml"
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    board.run("systemctl", "restart", AGENT_UNIT)


def start_s(board: NspawnMachine) -> float:
    """Seconds from the start of the process until it is connected to its broker."""
    board.run("systemctl", "restart", AGENT_UNIT)
    begun_us = int(board.shown(AGENT_UNIT, "ExecMainStartTimestampMonotonic"))
    rows: list[dict[str, str]] = []

    def connected() -> bool:
        text = board.run("journalctl", "-o", "json", "--no-pager", "-u", AGENT_UNIT)
        found = [json.loads(line) for line in text.splitlines()]
        rows[:] = [
            row
            for row in found
            if int(row["__MONOTONIC_TIMESTAMP"]) >= begun_us
            and "connected to the broker" in str(row["MESSAGE"])
        ]
        return bool(rows)

    board.wait("connection", connected)
    return (int(rows[0]["__MONOTONIC_TIMESTAMP"]) - begun_us) / 1e6


def measure(fleet: DeployedFleet, seconds: float) -> list[str]:
    """The numbers as lines."""
    fleet.found()
    board = fleet.new_board(machine_images.built_package())
    fleet.enrol(board)
    board.wait("first update", lambda: final(board) >= 1)
    set_up(board, ("micro_batch = 0", "micro_batch = 16"))
    board.wait("rest", lambda: agent_status(board)["condition"].startswith("rests"))
    starts = sorted(start_s(board) for _ in range(STARTS))
    at_rest, _, written = probe(board, seconds, 1.0)
    set_up(board, ("period_days = 30.0", "period_days = 0.0"))
    before = final(board)
    _, in_training, of_updates = probe(board, seconds / 2, 0.005)
    updates = final(board) - before
    return [
        f"start to connected: {starts[0]:.2f} to {starts[-1]:.2f} s, median "
        f"{starts[STARTS // 2]:.2f} s of {STARTS}",
        f"agent at rest: {at_rest / 1024:.1f} MiB PSS",
        f"with its trainer, CNN, micro-batch 16: {in_training / 1024:.1f} MiB PSS",
        f"written to the disk in {seconds:.0f} s at rest: {written} B",
        f"written by the agent in {seconds / 2:.0f} s of training: {of_updates} B, "
        f"{of_updates / max(1, updates) / 1000:.0f} kB for each of {updates} updates",
    ]


def main() -> None:
    """Prints the numbers."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    machine_images.CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=machine_images.CACHE))
    model = build_model("cnn", SHAPE, CLASSES, np.random.default_rng(1))
    fleet = DeployedFleet(folder, model, write_digits)
    try:
        sys.stdout.write("\n".join(measure(fleet, seconds)) + "\n")
    finally:
        fleet.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
