"""Memory limit of the control group that a process sees as its root.

That is the limit of a container. Page cache that the kernel takes back at once counts
as room. Source: the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from dataclasses import dataclass
from pathlib import Path

CHECK_MB = 96
"""Memory of the checks: themselves, and ONNX Runtime in a process beside them."""
_ROOT = Path("/sys/fs/cgroup")
_MIB = 1 << 20
_UNLIMITED = 1 << 60
"""What version 1 says of a group without a limit is a little below 2^63."""


@dataclass(frozen=True)
class MemoryLimit:
    """A limit, and what is left of it.

    Attributes:
      limit_mb: In MiB.
      left_mb: In MiB; `0 <= left_mb <= limit_mb`.
    """

    limit_mb: int
    left_mb: int

    @property
    def warning(self) -> str:
        """One line for whoever runs the checks where they may be killed; else empty."""
        if self.left_mb >= CHECK_MB:
            return ""
        return (
            f"of the {self.limit_mb} MiB that this container may have, {self.left_mb} "
            f"are left, and the checks need {CHECK_MB}: if they are killed, run them "
            "with a higher limit, or stop the agent first\n"
        )


def memory_limit(root: Path = _ROOT) -> MemoryLimit | None:
    """The limit here; None where there is none.

    Args:
      root: Where control groups are mounted.
    """
    unified = (root, "memory.max", "memory.current", "inactive_file")
    by_controller = (
        root / "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    )
    for folder, limit_file, used_file, cached in (unified, by_controller):
        limit, used = _number(folder / limit_file), _number(folder / used_file)
        # Version 2 says "max" where there is no limit, which is no number.
        if limit is not None and used is not None and limit < _UNLIMITED:
            free = limit - used + _counted(folder / "memory.stat", cached)
            left = min(max(0, free), limit)
            return MemoryLimit(limit // _MIB, left // _MIB)
    return None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _counted(file: Path, name: str) -> int:
    """One row of `memory.stat`; 0 without it."""
    try:
        lines = [line.split() for line in file.read_text("utf-8").splitlines()]
    except OSError:
        return 0
    return next((int(words[1]) for words in lines if words[:1] == [name]), 0)
