"""Test whether a coordinator runs, by its status file and its process."""

import fcntl
import os
from pathlib import Path

from starling.coordinator.runtime.status.status_reader import read_status
from starling.protocol.errors import OperationError


def lives(pid: int) -> bool:
    """True if a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # It exists, as somebody else's.
    except PermissionError:
        return True
    return True


def is_locked(path: Path) -> bool:
    """True while some process holds the lock of a file; False if it cannot be read.

    Args:
      path: The lock file; not changed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared, so that two who ask do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_running(status: Path) -> bool:
    """True if the coordinator that wrote a status still runs."""
    try:
        document = read_status(status) or {}
        return document["state"] != "stopped" and lives(document["pid"])
    except (OperationError, LookupError, TypeError, OverflowError):
        return False
