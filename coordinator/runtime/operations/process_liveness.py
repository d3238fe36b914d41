"""Test whether a coordinator runs, by its status file and its process."""

import json
import os
from pathlib import Path

from starling.durable.files import read_if_present

STATUS_BYTES_MAX = 64 << 20


def lives(pid: int) -> bool:
    """True if a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_running(status: Path) -> bool:
    """True if the coordinator that wrote a status still runs."""
    content = read_if_present(status, STATUS_BYTES_MAX)
    try:
        document = {} if content is None else json.loads(content)
        return document["state"] != "stopped" and lives(document["pid"])
    except (ValueError, LookupError, TypeError):
        return False
