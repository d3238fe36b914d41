"""A fleet as a process of its own, and what its home says of it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.e2e.deadline import DEADLINE_S


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "starling", "fleet", "run", *words]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


@contextmanager
def running(
    *words: str, stderr: int | IO[str] = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=stderr, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def until(
    condition: Callable[[], object], what: str, within_s: float = DEADLINE_S
) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, f"{what}: not in time"
        time.sleep(0.05)


def process_of(home: Path, name: str) -> int:
    """The process of a service, as the fleet says."""
    return int(json.loads((home / "processes.json").read_text())[name])


def mosquitto_of(home: Path) -> int:
    """The first child of the service that runs the broker."""
    parent = process_of(home, "broker")
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return int(children.split()[0])


def processes_of(home: Path) -> list[int]:
    """Processes whose command line names this home."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                said = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(home) in said:
                found.append(int(folder.name))
    return found


def version(home: Path) -> int:
    try:
        document = json.loads((home / "coordinator" / "status.json").read_text())
    except (OSError, ValueError):
        return 0
    return int(document["tasks"][0]["head"]) if document["tasks"] else 0


def has_reached(home: Path, wanted: int) -> bool:
    return version(home) >= wanted
