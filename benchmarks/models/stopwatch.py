"""Time and memory of this process."""

import time
from collections.abc import Callable
from pathlib import Path

_TURN_S, _RUNS_MIN = 0.5, 5


def seconds(step: Callable[[], object]) -> float:
    """The shortest of several runs, in seconds: other work only ever adds."""
    step()
    times: list[float] = []
    end = time.perf_counter() + _TURN_S
    while len(times) < _RUNS_MIN or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_mib() -> float:
    """The most resident memory that this process has had, in MiB.

    What `getrusage` says would include the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return round(int(peak.split()[1]) / 1024, 1)
