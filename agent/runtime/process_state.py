"""State of a home's agent process, as seen from outside.

Source: proc(5) on /proc/[pid]/stat.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.durable.locks import PROC, lock_holder, named_process

_HALTED = frozenset({"T", "t"})


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
    pid = named_process(file)
    if not lock_holder(file, proc):
        return ProcessState(Liveness.GONE, pid)
    return ProcessState(Liveness.HALTED if halted(pid, proc) else Liveness.RUNS, pid)


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
