"""Test whether a coordinator runs, by its status file and its process."""

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


def is_running(status: Path) -> bool:
    """True if the coordinator that wrote a status still runs."""
    try:
        document = read_status(status) or {}
        return document["state"] != "stopped" and lives(document["pid"])
    except (OperationError, LookupError, TypeError, OverflowError):
        return False
