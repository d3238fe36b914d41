"""Every process of a fleet is killed at random; nothing that was told is lost.

The fleet starts again what dies, as a service manager would.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from starling.protocol.errors import EXIT_DONE
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

COORDINATORS = 4
BOARDS = 6
RUN_S = 180
QUIET_S = 40
"""At the end nobody is killed, so that everybody can catch up."""
BEGIN_TIMEOUT_S = 120.0
END_TIMEOUT_S = 240.0
BETWEEN_S = (0.5, 4.0)
HEADS_APART = 2
"""Versions that may become final while the coordinators are told to stop."""
SEED = 7


def read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return document


def coordinator(home: Path, number: int) -> Path:
    return home / ("coordinator" if number == 1 else f"coordinator-{number}")


def victims(home: Path) -> list[int]:
    """Process ids of the broker, the coordinators and the boards, as they say."""
    found = [coordinator(home, number) for number in range(1, COORDINATORS + 1)]
    found += [home / "boards" / f"{number:03d}" for number in range(BOARDS)]
    pids = [read(path / "status.json").get("pid") for path in found]
    with suppress(FileNotFoundError, ValueError):
        pids.append(int((home / "broker" / "lock").read_text()))
    return [pid for pid in pids if pid and _is_ours(pid, home)]


def _is_ours(pid: int, home: Path) -> bool:
    """Whether a process serves this fleet: ids of the dead are given out again."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return str(home).encode() in words


def heads(home: Path) -> list[int]:
    statuses = [
        read(coordinator(home, number) / "status.json")
        for number in range(1, COORDINATORS + 1)
    ]
    return [status["tasks"][0]["head"] for status in statuses if status.get("tasks")]


def test_kill_9_of_any_process_loses_no_receipt(tmp_path: Path) -> None:
    require_mosquitto()
    home, draw, killed = tmp_path / "home", random.Random(SEED), 0
    words = ["--devices", str(BOARDS), "--buffer", "3", "--privacy", "none"]
    words += ["--coordinators", str(COORDINATORS), "--until-version", "100000"]
    words += ["--time-limit", str(RUN_S), "--report", str(tmp_path)]
    command = [sys.executable, "-m", "starling", "fleet", "run", *words]
    with (tmp_path / "log").open("wb") as log:
        fleet = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        begin_s = time.monotonic() + BEGIN_TIMEOUT_S
        while len(heads(home)) < COORDINATORS:
            assert time.monotonic() < begin_s
            time.sleep(0.1)
        end_s = time.monotonic() + RUN_S - QUIET_S
        while time.monotonic() < end_s:
            time.sleep(draw.uniform(*BETWEEN_S))
            assert fleet.poll() is None, (tmp_path / "log").read_text()
            living = victims(home)
            with suppress(ProcessLookupError, IndexError):
                os.kill(draw.choice(sorted(living)), signal.SIGKILL)
                killed += 1
        status = fleet.wait(END_TIMEOUT_S)
    finally:
        fleet.kill()
        fleet.wait()
    said = (tmp_path / "log").read_text()
    assert status == EXIT_DONE, said
    report = read(tmp_path / "report.json")
    receipts = report["receipts"]
    assert (receipts["wrong"], receipts["forked"]) == ([], []), said
    assert report["chain"]["verified"] is True
    assert receipts["verified"] > killed > RUN_S / 10
    assert max(heads(home)) - min(heads(home)) <= HEADS_APART, heads(home)
