"""Finds real data sets, where somebody has put them; nothing is downloaded."""

import os
from pathlib import Path

_BESIDE = Path(__file__).parents[2] / "shared" / "data"


def find(name: str) -> Path | None:
    """A data set's folder or file.

    Args:
      name: Its path below STARLING_DATA, or below ../shared/data if that is not set.

    Returns:
      None if it is not there, or STARLING_DATA is empty: then data are made.
    """
    named = os.environ.get("STARLING_DATA")
    path = (_BESIDE if named is None else Path(named)) / name
    return path if named != "" and path.exists() else None
