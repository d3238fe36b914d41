"""Time and memory of this process."""

import time
from collections.abc import Callable
from pathlib import Path

_TURN_S, _RUNS_MIN = 0.3, 5


def seconds(step: Callable[[], object]) -> float:
    """The shortest of several runs, in seconds of this thread's processor time.

    Waiting for a busy machine does not count, and other work only ever adds. The
    clock of the whole process moves in ticks once its processor time is limited.
    """
    step()
    times: list[float] = []
    while len(times) < _RUNS_MIN or sum(times) < _TURN_S:
        start = time.thread_time()
        step()
        times.append(time.thread_time() - start)
    return min(times)


def peak_mib() -> float:
    """The most resident memory that this process has had, in MiB.

    What `getrusage` says would include the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return round(int(peak.split()[1]) / 1024, 1)
