"""A real board at work: what it writes is its owner's alone, and shows no value."""

import json
import platform
import signal
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from starling.sandbox import landlock, seccomp
from tests.e2e.agent.test_agent_process import RealCoordinator
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e

RARE = 31415926.0
"""Stands in the data, and nowhere else; five digits alone may be a process id."""
TRACES = (b"31415926", b"31,415,926", b"3.14159", b"3.1416e")
PACKED = tuple(np.array(RARE, kind).tobytes() for kind in ("<f4", "<f8"))
ODD = {
    "cell": f"1,2,3,4,5,6,7,8,0\n1,2,3,4,5,6,7,{RARE}x,0\n",
    "label": f"1,2,3,4,5,6,7,{RARE},{RARE}\n",
    "row": f"1,2,3,4,5,6,7,8,0\n1,2,{RARE}\n",
}


@pytest.fixture(scope="module")
def meadow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCoordinator]:
    """Broker, coordinator and two boards that train on rare numbers."""
    require_mosquitto()
    found = RealCoordinator(tmp_path_factory.mktemp("quiet"))
    found.found(2)
    for name in ("board0", "board1"):
        x = np.full((64, 8), RARE, np.float32)
        np.savez(found.home(name) / "data" / "a.npz", x=x, y=np.arange(64) % 4)
        settings = found.home(name) / "agent.toml"
        text = settings.read_text().replace('level = "info"', 'level = "debug"')
        settings.write_text(text.replace("check_s = 60.0", "check_s = 1.0"))
    # As an older version left it.
    found.home("board0").chmod(0o755)
    (found.home("board0") / "data").chmod(0o755)
    for name in ("broker", "coordinator", "board0", "board1"):
        found.start(name)
    yield found
    found.stop()


def assert_quiet(meadow: RealCoordinator, name: str) -> None:
    """Fails if a file is open to others, or shows the number."""
    home = meadow.home(name)
    for path in (home, *home.rglob("*")):
        # The agent goes on: what is gone by now shows nothing.
        with suppress(FileNotFoundError):
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert not mode & 0o077, f"{path} {mode:o}"
            if path.is_file() and (home / "data") not in path.parents:
                assert_silent(path)
    assert_silent(meadow.folder / f"{name}.log")


def assert_silent(file: Path) -> None:
    content = file.read_bytes()
    assert not [trace for trace in (*TRACES, *PACKED) if trace in content], file


def test_board_that_trains_keeps_quiet(meadow: RealCoordinator) -> None:
    meadow.wait_for_version("board0", 2)

    assert meadow.status("board0")["sandbox"] == {
        "landlock": f"ABI {landlock.abi()}" if landlock.abi() else "absent",
        "seccomp": "yes" if platform.machine() in seccomp.MACHINES else "no",
    }
    assert_quiet(meadow, "board0")
    log = (meadow.folder / "board0.log").read_text()
    assert f"WARNING agent: closed to others: {meadow.home('board0')}" in log


@pytest.mark.parametrize("name", ["board0", "coordinator"])
def test_process_with_keys_leaves_no_core_dump(
    meadow: RealCoordinator, name: str
) -> None:
    meadow.wait_for_version("board0", 2)

    limits = Path(f"/proc/{meadow.running[name].pid}/limits").read_text()

    (core,) = [line for line in limits.splitlines() if "core file" in line]
    assert core.split()[4:6] == ["0", "0"]
    status = meadow.home(name) / "status.json"
    assert stat.S_IMODE(status.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ODD)
def test_board_with_odd_data_keeps_quiet(meadow: RealCoordinator, kind: str) -> None:
    meadow.wait("board1", lambda: "board1" in meadow.running)
    meadow.end("board1", signal.SIGTERM)
    file = meadow.home("board1") / "data" / "b.csv"
    file.write_text(ODD[kind])
    file.chmod(0o600)

    meadow.start("board1")
    pid = meadow.running["board1"].pid
    meadow.wait(
        "a complaint about the file",
        lambda: (
            meadow.status("board1").get("pid") == pid
            and "b.csv" in json.dumps(meadow.status("board1"))
        ),
    )

    assert_quiet(meadow, "board1")
