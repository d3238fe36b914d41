"""State of a home's agent process, as seen from outside.

The lock file names a process; after a power cut that number may be anybody's, so the
kernel is asked who holds the lock. Trying it instead could make an agent that starts
just now believe in another one.

Source: proc(5) on /proc/locks and /proc/[pid]/stat.
"""

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.durable.files import read_if_present, storage_errors
from starling.protocol.errors import LimitError

PROC = Path("/proc")
_PID_BYTES_MAX = 64
_HALTED = frozenset({"T", "t"})
_PLACE = 5
"""Where a line of /proc/locks has device and inode; the process stands before it."""


class Liveness(Enum):
    """State of the process."""

    RUNS = "runs"
    HALTED = "halted"
    GONE = "gone"


@dataclass(frozen=True)
class ProcessState:
    """The process that a lock file names.

    Attributes:
      liveness: Whether it is the agent, and works.
      pid: Its number; 0 if the file names none.
    """

    liveness: Liveness
    pid: int


def look(home: AgentHome, proc: Path = PROC) -> ProcessState:
    """State of the agent that last ran in a home.

    Args:
      home: The agent's home.
      proc: Where the kernel shows processes and locks.

    Raises:
      StorageError: If the lock file cannot be looked at.
    """
    file = home.state / "lock"
    content = None
    with suppress(LimitError):  # not of an agent's making
        content = read_if_present(file, _PID_BYTES_MAX)
    owner = (content or b"").decode("ascii", "replace").strip()
    if not owner.isdigit():
        return ProcessState(Liveness.GONE, 0)
    with storage_errors(file):
        inode = file.stat().st_ino
    return ProcessState(_liveness(proc, owner, inode), int(owner))


def _liveness(proc: Path, owner: str, inode: int) -> Liveness:
    try:
        state = (proc / owner / "stat").read_text("utf-8", "replace")
        locks = (proc / "locks").read_text("utf-8")
    except OSError:
        return Liveness.GONE
    if not any(_is_held(row.split(), owner, inode) for row in locks.splitlines()):
        return Liveness.GONE
    return Liveness.HALTED if _is_halted(state) else Liveness.RUNS


def halted(pid: int, proc: Path = PROC) -> bool:
    """True while a process is stopped by a signal; False if it is not there.

    Args:
      pid: Its number.
      proc: Where the kernel shows processes.
    """
    try:
        return _is_halted((proc / str(pid) / "stat").read_text("utf-8", "replace"))
    except OSError:
        return False


def _is_halted(state: str) -> bool:
    """Reads /proc/PID/stat."""
    # The program's name stands in parentheses and may hold anything.
    return state.rpartition(") ")[2][:1] in _HALTED


def _is_held(row: list[str], owner: str, inode: int) -> bool:
    """True if a line of /proc/locks is this process's lock of this file.

    The device is left out: some file systems show another one there than to `stat`.
    """
    return (
        len(row) > _PLACE
        and row[1] == "FLOCK"
        and row[_PLACE - 1] == owner
        and row[_PLACE].rpartition(":")[2] == str(inode)
    )
