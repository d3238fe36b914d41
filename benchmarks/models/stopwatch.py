"""Time and memory of this process."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

_TURN_S, _TURNS = 0.15, 3


def seconds(step: Callable[[], object]) -> float:
    """The best of a few medians of a step's processor time, in seconds."""
    step()
    return min([_median(step) for _ in range(_TURNS)])


def _median(step: Callable[[], object]) -> float:
    times: list[float] = []
    end = time.perf_counter() + _TURN_S
    while not times or time.perf_counter() < end:
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    return statistics.median(times)


def peak_mib() -> float:
    """The most resident memory that this process has had, in MiB.

    What `getrusage` says would include the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return round(int(peak.split()[1]) / 1024, 1)
