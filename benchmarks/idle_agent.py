"""What an agent costs while it waits: memory and processor time of the real process.

`python -m benchmarks.idle_agent [SECONDS]` starts a broker, a coordinator and one agent
that has trained once and waits for the next version, stops the coordinator, and watches
the agent for a minute; then the same with the board's own metrics on, written as often
as under its unit. Prints the table and writes benchmarks/results/idle_agent.json.
PSS shares a page among the processes that map it; with the coordinator stopped the
agent is the only Python here, as on a board. Needs root, since an agent hides its
memory from other processes of its user.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness.result_file import keep
from starling.broker.runtime.mosquitto_process import free_port
from starling.compiler import compile_model, write_bundle
from starling.fleet.reference_models import build_model

SECONDS = 60.0
DEADLINE_S = 60.0
PSS_GOAL_MB = 28.0
CPU_GOAL_PERCENT = 0.5
METRICS_PSS_GOAL_MB = 1.0
FLOWER_PSS_MB = 203.0
"""Published figure for Flower 1.41, measured elsewhere; context, not a comparison."""
TASK = """
name = "idle"
buffer = 2
leases = 2
pledge_least = 16
pledge_most = 64
"""


def starling(*words: str | Path) -> None:
    """Runs one command to its end."""
    command = [sys.executable, "-m", "starling", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def service(
    *words: str | Path, runtime_folder: Path | None = None
) -> subprocess.Popen[bytes]:
    """Starts one service, silently, with the folder in memory that a unit gives it."""
    command = [sys.executable, "-m", "starling", *map(str, words)]
    environment = dict(os.environ)
    if runtime_folder is not None:
        environment["RUNTIME_DIRECTORY"] = str(runtime_folder)
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


def prepare(folder: Path) -> None:
    """A fleet of one board and a task that wants two."""
    broker, coordinator, board = (folder / name for name in ("broker", "c", "a"))
    port = str(free_port())
    starling(
        "broker",
        "init",
        "--home",
        broker,
        "--fleet",
        "idle",
        "--port",
        port,
        "--bind",
        "127.0.0.1",
    )
    starling(
        *("coordinator", "init", "--home", coordinator, "--fleet", "idle"),
        *("--broker", broker),
    )
    starling("agent", "init", "--home", board)
    starling("agent", "enrol", "--home", board)
    admission = folder / "admission.json"
    starling(
        *("coordinator", "admit", board / "enrolment-request.json"),
        *("--out", admission, "--home", coordinator),
    )
    starling("agent", "enrol", "--home", board, "--admission", admission)
    rng = np.random.default_rng(1)
    np.savez(
        board / "data" / "a.npz",
        x=rng.normal(size=(100, 64)).astype(np.float32),
        y=rng.integers(0, 10, 100),
    )
    model = build_model("softmax", (64,), 10, rng)
    write_bundle(compile_model(model, loss="cross-entropy"), folder / "bundle")
    (folder / "task.toml").write_text(TASK)
    starling(
        *("coordinator", "publish", "--bundle", folder / "bundle"),
        *("--task", folder / "task.toml", "--home", coordinator),
    )


def wait_until_idle(home: Path) -> None:
    """Waits until the agent's update is final."""
    until_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < until_s:
        try:
            status = json.loads((home / "status.json").read_text())
        except (OSError, ValueError):
            status = {}
        if status.get("outcomes", {}).get("final"):
            return
        time.sleep(0.2)
    raise SystemExit("the agent did not train within a minute")


def memory_mb(pid: int) -> dict[str, float]:
    """PSS, RSS and private memory in MB."""
    wanted = {"Pss": 0.0, "Rss": 0.0, "Private_Clean": 0.0, "Private_Dirty": 0.0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in wanted:
            wanted[name] = float(rest.split()[0]) * 1024 / 1e6
    return wanted


def processor_s(pid: int) -> float:
    """Processor time of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, seconds: float, *, metrics: bool) -> dict[str, float]:
    """Runs the fleet and watches its agent.

    Args:
      folder: Empty.
      seconds: For how long.
      metrics: Whether the board writes its own.
    """
    prepare(folder)
    runtime_folder = folder / "run"
    runtime_folder.mkdir()
    textfile = runtime_folder / "agent.prom"
    if metrics:
        settings = folder / "a" / "agent.toml"
        text = settings.read_text()
        settings.write_text(text.replace('textfile = ""', f'textfile = "{textfile}"'))
    broker = service("broker", "run", "--home", folder / "broker")
    coordinator = service("coordinator", "run", "--home", folder / "c")
    agent = service(
        "agent", "run", "--home", folder / "a", runtime_folder=runtime_folder
    )
    try:
        wait_until_idle(folder / "a")
        coordinator.terminate()
        coordinator.wait()
        before_s = processor_s(agent.pid)
        time.sleep(seconds)
        used_s = processor_s(agent.pid) - before_s
        memory = memory_mb(agent.pid)
    finally:
        for process in (agent, coordinator, broker):
            process.terminate()
        for process in (agent, coordinator, broker):
            process.wait()
    if textfile.exists() != metrics:
        raise SystemExit("the board's metrics are not what was asked for")
    return {
        "pss_mb": memory["Pss"],
        "rss_mb": memory["Rss"],
        "private_mb": memory["Private_Clean"] + memory["Private_Dirty"],
        "cpu_percent": 100 * used_s / seconds,
        "seconds": seconds,
    }


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "seconds", type=float, nargs="?", default=SECONDS, help="of each of two watches"
    )
    seconds: float = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), seconds, metrics=False)
    with tempfile.TemporaryDirectory() as folder:
        shown = measure(Path(folder), seconds, metrics=True)
    found["metrics_pss_mb"] = shown["pss_mb"] - found["pss_mb"]
    rows = (
        ("PSS, MB", found["pss_mb"], PSS_GOAL_MB),
        ("RSS, MB", found["rss_mb"], None),
        ("private, MB", found["private_mb"], None),
        ("processor, % of a core", found["cpu_percent"], CPU_GOAL_PERCENT),
        ("metrics on, PSS more, MB", found["metrics_pss_mb"], METRICS_PSS_GOAL_MB),
    )
    sys.stdout.write(f"{'idle agent':<28}{'measured':>10}{'goal':>8}\n")
    for name, value, goal in rows:
        sys.stdout.write(f"{name:<28}{value:>10.2f}{goal or '':>8}\n")
    sys.stdout.write(f"published, not run here: Flower 1.41 {FLOWER_PSS_MB} MB PSS\n")
    keep("idle_agent", found)


if __name__ == "__main__":
    main()
