"""Test whether a coordinator runs, by its status file and its process."""

import json
import os
from pathlib import Path
from typing import Any

from starling.durable.files import read_if_present
from starling.protocol.errors import OperationError

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
    try:
        document = read_status(status) or {}
        return document["state"] != "stopped" and lives(document["pid"])
    except (OperationError, LookupError, TypeError, OverflowError):
        return False


def read_status(path: Path) -> dict[str, Any] | None:
    """The status that a coordinator last wrote; None if it never did.

    Raises:
      OperationError: If the file is not whole: it is not synced, and a power cut may
        take some of it.
      StorageError: If the disk refuses.
    """
    content = read_if_present(path, STATUS_BYTES_MAX)
    if content is None:
        return None
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise OperationError(
            f"{path}: damaged; the coordinator writes it anew once it runs"
        )
    return document
