"""Reader of the status that a process writes; it needs nothing of a whole fleet."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from starling.coordinator.runtime.status import status_reader
from starling.protocol.errors import OperationError


def read_status(path: Path) -> dict[str, Any] | None:
    """Status that a process last wrote; None without a whole one.

    Raises:
      StorageError: If the disk refuses.
    """
    with suppress(OperationError):
        return status_reader.read_status(path)
    return None
