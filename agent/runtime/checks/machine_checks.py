"""The machine: clock, disk, memory, heat and voltage.

Source: the kernel's Documentation/hwmon/sysfs-interface.rst and
drivers/hwmon/raspberrypi-hwmon.c for the voltage; raspberrypi.com's page on frequency
management for the heat at which a board slows down.
"""

import ctypes
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from starling.agent.round.readiness import DISK_BYTES_MIN
from starling.agent.runtime.checks.check_rows import fail, ok, warn
from starling.agent.runtime.checks.memory_limit import memory_limit
from starling.agent.runtime.machine_info import clock_is_plausible, space_left
from starling.broker.health_checks import HealthCheck
from starling.protocol.errors import StorageError
from starling.sandbox import child_process

DISK_WARN = 8
"""Times the least room, below which there is a warning."""
HOT_C, TOO_HOT_C = 80.0, 85.0
_TIME_ERROR = 5
_TIMEX_BYTES = 256
_MIB = 1 << 20
_PROBE_S = 30.0
_ALLOCATES = """
import resource, sys
most = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
try:
    bytearray(2 * most)
except MemoryError:
    sys.exit(0)
sys.exit(1)
"""


@dataclass(frozen=True)
class MachinePaths:
    """Paths at which the kernel describes the machine.

    Attributes:
      thermal: Folder of thermal zones.
      hwmon: Folder of sensors.
      controllers: Controllers of the unified cgroups.
      cgroups: Controllers of all cgroups.
      memory: How much memory there is.
      agent: The control groups of the agent; None while none runs.
      limits: Where control groups are mounted.
    """

    thermal: Path = Path("/sys/class/thermal")
    hwmon: Path = Path("/sys/class/hwmon")
    controllers: Path = Path("/sys/fs/cgroup/cgroup.controllers")
    cgroups: Path = Path("/proc/cgroups")
    memory: Path = Path("/proc/meminfo")
    agent: Path | None = None
    limits: Path = Path("/sys/fs/cgroup")


def clock_checks() -> Iterator[HealthCheck]:
    """Checks that the clock was set, and that a service keeps it right."""
    fix = "set the clock, as with: timedatectl set-ntp true"
    if not clock_is_plausible():
        yield fail("clock.set", "never set: no certificate is valid", fix)
        return
    yield ok("clock.set", "plausible")
    if _clock_is_kept():
        yield ok("clock.synchronised", "the kernel knows a source of time")
    else:
        yield warn("clock.synchronised", "nothing sets it right", fix)


def _clock_is_kept() -> bool:
    adjust = getattr(ctypes.CDLL(None), "adjtimex", None)
    if adjust is None:
        return True
    # With nothing but zeros it only asks.
    return bool(adjust(ctypes.create_string_buffer(_TIMEX_BYTES)) != _TIME_ERROR)


def disk_check(home: Path) -> HealthCheck:
    """Checks that there is room for a charge and its update."""
    name, fix = "disk.room", "make room, or put the home on a larger disk"
    try:
        left = space_left(home)
    except StorageError as error:
        return fail(name, str(error), fix)
    found = f"{left // _MIB} MiB are free"
    if left < DISK_BYTES_MIN:
        return fail(name, f"{found}; no training below {DISK_BYTES_MIN >> 20}", fix)
    if left < DISK_WARN * DISK_BYTES_MIN:
        return warn(name, found, fix)
    return ok(name, found)


def memory_checks(paths: MachinePaths, trainer_mb: int) -> Iterator[HealthCheck]:
    """Checks that there is memory for a trainer, and that its limit holds.

    Args:
      paths: Where the kernel tells of it.
      trainer_mb: The trainer's limit in MiB; 0 for none.
    """
    name, free_mb = "memory.available", _available_mb(paths.memory)
    limit = memory_limit(paths.limits)
    # /proc/meminfo shows a container the whole machine's memory.
    if limit is not None and (free_mb is None or limit.left_mb < free_mb):
        found = f"{limit.left_mb} MiB of the container's {limit.limit_mb}"
        if not trainer_mb or limit.limit_mb >= trainer_mb:
            yield ok(name, found)
        else:
            fix = f"give it more, or set training.memory_mb below {limit.limit_mb}"
            yield warn(name, f"{found}, a trainer may use {trainer_mb}", fix)
    elif free_mb is None:
        yield warn(name, f"{paths.memory} does not say", "look with: free -m")
    elif trainer_mb and free_mb < trainer_mb:
        fix = "set training.memory_mb lower, or stop other programs"
        yield warn(name, f"{free_mb} MiB, a trainer may use {trainer_mb}", fix)
    else:
        yield ok(name, f"{free_mb} MiB")
    yield _limit_check(trainer_mb)
    yield _cgroup_check(paths)


def _available_mb(path: Path) -> int | None:
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) // 1024 if found else None


def _limit_check(trainer_mb: int) -> HealthCheck:
    name = "memory.trainer-limit"
    if not trainer_mb:
        return warn(name, "none is set", "set training.memory_mb")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    # What is tried need not be as large as the trainer's: it is the same limit.
    most = min(64 * _MIB, trainer_mb * _MIB)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    try:
        # In a process of its own: a limit that was lowered cannot be raised again.
        done = child_process.run_expendable(
            [sys.executable, "-s", "-P", "-c", _ALLOCATES, str(most)],
            child_process.environment(),
            _PROBE_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return warn(name, f"could not be tried: {error}", "look again later")
    if done.returncode == 0:
        return ok(name, f"{trainer_mb} MiB, and the kernel holds to such a limit")
    return fail(
        name,
        "a process could take more than its limit",
        "run it on a kernel that counts RLIMIT_DATA: Linux 4.7 or later",
    )


def _cgroup_check(paths: MachinePaths) -> HealthCheck:
    name = "memory.cgroup"
    if _memory_is_counted(paths):
        if not _is_left_out(paths.agent):
            return ok(name, "a unit's MemoryMax= holds")
        return warn(
            name,
            "the agent's unit has no memory group: its MemoryMax= does nothing",
            "see whether systemd may write /sys/fs/cgroup here, as in a container",
        )
    return warn(
        name,
        "the kernel counts no memory by service: MemoryMax= of the unit does nothing",
        "add cgroup_enable=memory to the kernel's command line, and start anew",
    )


def _memory_is_counted(paths: MachinePaths) -> bool:
    try:
        return "memory" in paths.controllers.read_text("utf-8").split()
    except OSError:
        pass
    try:
        rows = [row.split() for row in paths.cgroups.read_text("utf-8").splitlines()]
    except OSError:
        return False
    return any(row[0] == "memory" and row[-1] == "1" for row in rows if row)


def _is_left_out(groups: Path | None) -> bool:
    """True for an agent that is in a unit's group for systemd, and in none for memory.

    Under control groups of version 1 each controller has a tree of its own, and a
    systemd that may not write the one of memory leaves limits out without a word.
    """
    try:
        lines = [] if groups is None else groups.read_text("utf-8").splitlines()
    except OSError:
        return False
    places = {name: path for _, name, path in (line.split(":", 2) for line in lines)}
    unit = places.get("name=systemd", "").rpartition("/")[2]
    memory = places.get("memory")
    return unit.endswith(".service") and memory is not None and unit not in memory


def heat_check(paths: MachinePaths) -> HealthCheck:
    """Checks the temperature of the hottest part."""
    name, found = "heat.temperature", []
    for file in sorted(paths.thermal.glob("thermal_zone*/temp")):
        value = _number(file)
        if value is not None:
            found.append(value / 1000.0)
    if not found:
        return ok(name, "no sensor here")
    hottest = max(found)
    text, fix = f"{hottest:.1f} °C", "give the board a heat sink, or more air"
    if hottest >= TOO_HOT_C:
        return fail(name, text, fix)
    if hottest >= HOT_C:
        return warn(name, f"{text}: it slows down", fix)
    return ok(name, text)


def voltage_check(paths: MachinePaths) -> HealthCheck:
    """Checks the supply voltage; only boards with a sensor report it."""
    name, seen = "power.voltage", False
    for folder in sorted(paths.hwmon.glob("hwmon*")):
        try:
            # By name, since the numbers of hwmon folders depend on the order of
            # drivers.
            if (folder / "name").read_text("utf-8").strip() != "rpi_volt":
                continue
        except OSError:
            continue
        seen = True
        if _number(folder / "in0_lcrit_alarm"):
            fix = "use the board's own power supply and a short, thick cable"
            return warn(name, "too low since the last start", fix)
    return ok(name, "never too low" if seen else "no sensor here")


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
