"""Reader of the status that a process writes; it needs nothing of a whole fleet."""

import json
from pathlib import Path
from typing import Any

from starling.durable.files import read_if_present

STATUS_BYTES_MAX = 64 << 20


def read_status(path: Path) -> dict[str, Any] | None:
    """Status that a process last wrote; None without a whole one."""
    content = read_if_present(path, STATUS_BYTES_MAX)
    if content is None:
        return None
    try:
        document: dict[str, Any] = json.loads(content)
    except ValueError:
        return None
    return document
