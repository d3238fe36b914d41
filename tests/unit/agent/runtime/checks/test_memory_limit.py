"""Room below a container's memory limit, by both versions of control groups."""

from pathlib import Path

import pytest

from starling.agent.runtime.checks.memory_limit import MemoryLimit, memory_limit

MIB = 1 << 20


def unified(root: Path, limit: str, used: int, cached: int) -> None:
    (root / "memory.max").write_text(f"{limit}\n")
    (root / "memory.current").write_text(f"{used}\n")
    (root / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\n")


def by_controller(root: Path, limit: str, used: int, cached: int) -> None:
    folder = root / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    stat = f"inactive_file 0\ntotal_inactive_file {cached}\n"
    (folder / "memory.stat").write_text(stat)


@pytest.mark.parametrize("write", [unified, by_controller])
@pytest.mark.parametrize(
    ("limit", "used", "cached", "room"),
    [
        (40 * MIB, 30 * MIB, 2 * MIB, MemoryLimit(40, 12)),
        (40 * MIB, 41 * MIB, 0, MemoryLimit(40, 0)),
        (40 * MIB, 1, 9 * MIB, MemoryLimit(40, 40)),
    ],
)
def test_room_is_what_is_left_with_what_the_kernel_takes_back(
    tmp_path: Path, write: object, limit: int, used: int, cached: int, room: MemoryLimit
) -> None:
    assert callable(write)
    write(tmp_path, str(limit), used, cached)

    assert memory_limit(tmp_path) == room


def test_without_a_limit_there_is_no_room_to_speak_of(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None
    unified(tmp_path, "max", 1, 1)
    by_controller(tmp_path, "9223372036854771712", 1, 1)
    assert memory_limit(tmp_path) is None


def test_warning_says_what_is_left_and_what_to_do() -> None:
    assert MemoryLimit(2000, 500).warning == ""
    said = MemoryLimit(40, 12).warning
    for word in ("40 MiB", "12", "killed", "higher limit"):
        assert word in said
