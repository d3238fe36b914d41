"""Reads a coordinator's `status.json` from outside."""

import json
from pathlib import Path
from typing import Any

from starling.durable.files import read_if_present
from starling.protocol.errors import OperationError

STATUS_BYTES_MAX = 64 << 20


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
