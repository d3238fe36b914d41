"""Facts of this machine: device tree, cores, memory, disk and clock."""

import gc
import os
import time
from importlib.util import find_spec
from pathlib import Path

from starling.board_profiles import Profile, catalog, choose
from starling.durable.files import free_bytes
from starling.engine.runtime import process_memory

CLOCK_PLAUSIBLE_FROM_S = 1_700_000_000
"""Late 2023; an earlier clock was never set, and certificates cannot be checked."""
_COMPATIBLE = Path("/proc/device-tree/compatible")


def profile(wanted: str) -> Profile:
    """The profile of this board.

    Args:
      wanted: A profile's name, or "auto".

    Raises:
      ConfigError: If there is no profile of that name.
    """
    # Those that a container or a unit leaves us, not those of the machine.
    cores = len(os.sched_getaffinity(0))
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return choose(catalog(), wanted, _compatible(), cores, memory_mb)


def has_training_engine() -> bool:
    """True if ONNX Runtime is here with its training; it is not imported for that."""
    found = find_spec("onnxruntime")
    places = found.submodule_search_locations if found is not None else None
    return any((Path(place) / "training").is_dir() for place in places or ())


def _compatible() -> str:
    try:
        return _COMPATIBLE.read_text("utf-8").rstrip("\0")
    except (OSError, UnicodeDecodeError):
        return ""


def clock_is_plausible() -> bool:
    """True if the wall clock can have been set."""
    return time.time() >= CLOCK_PLAUSIBLE_FROM_S


def space_left(folder: Path) -> int:
    """Bytes that the disk under `folder` has left.

    Raises:
      StorageError: If the folder is gone.
    """
    return free_bytes(folder)


def fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of a folder's files; equal while nothing changed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return ()
    return tuple((entry.name, *_size_and_time(entry)) for entry in entries)


def _size_and_time(entry: os.DirEntry[str]) -> tuple[int, int]:
    """Of a file; of a link that leads nowhere, nothing that could change."""
    try:
        found = entry.stat()
    except OSError:
        return (-1, 0)
    # Not by content: a data set may be gigabytes on a slow card, and is looked at every
    # so often.
    return (found.st_size, found.st_mtime_ns)


def return_memory() -> None:
    """Gives the system back what imports, models and updates have left behind.

    Frees about 3 MB of an idle agent.
    """
    gc.collect()
    process_memory.return_memory()
