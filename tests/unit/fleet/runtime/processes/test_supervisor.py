"""Children are kept running, and none is left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from starling.fleet.runtime.processes.supervisor import (
    ProcessSupervisor,
    SupervisedProcess,
    child_environment,
    starling_command,
)
from starling.protocol.errors import ConfigError
from tests.unit.fleet.wait_until import until


def shell(name: str, script: str, folder: Path) -> SupervisedProcess:
    return SupervisedProcess(name, ("/bin/sh", "-c", script), folder / f"{name}.log")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_supervisor_killed_child_is_started_again(tmp_path: Path) -> None:
    with ProcessSupervisor() as supervisor:
        supervisor.start(shell("one", "exec sleep 60", tmp_path))
        first = supervisor.pid("one")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        said: list[str] = []

        def said_both() -> bool:
            said.extend(supervisor.check())
            return len(said) >= 2

        until(said_both)
        assert said == ["one died (signal 9)", "one was started again"]
        assert supervisor.pid("one") not in {None, first}
        assert supervisor.restarts == 1


def state_of(pid: int | None) -> str:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


def test_supervisor_paused_child_stands_still_and_goes_on(tmp_path: Path) -> None:
    with ProcessSupervisor() as supervisor:
        supervisor.start(shell("one", "exec sleep 60", tmp_path))
        pid = supervisor.pid("one")
        supervisor.pause("one")
        until(lambda: state_of(pid) == "T")
        supervisor.go_on("one")
        until(lambda: state_of(pid) == "S")
        supervisor.pause("one")
        # It takes note of its end all the same.
        supervisor.stop_services()
        assert pid is not None
        assert not alive(pid)


def test_supervisor_wrong_configuration_stops_with_last_words(tmp_path: Path) -> None:
    with ProcessSupervisor() as supervisor:
        supervisor.start(shell("two", "echo agent.toml: bad; exit 78", tmp_path))
        with pytest.raises(ConfigError, match=r"two refuses .* agent\.toml: bad"):
            until(lambda: bool(supervisor.check()))


def test_supervisor_leaving_kills_grandchildren(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {note}.part; mv {note}.part {note}; wait"
    with ProcessSupervisor() as supervisor:
        supervisor.start(shell("three", script, tmp_path))
        until(note.exists)
        grandchild = int(note.read_text())
        assert alive(grandchild)
    until(lambda: not alive(grandchild))


def test_supervisor_parent_killed_children_go_too(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    program = (
        "import time\n"
        "from pathlib import Path\n"
        "from starling.fleet.runtime.processes import supervisor as s\n"
        f"note = Path({str(note)!r})\n"
        "with s.ProcessSupervisor() as supervisor:\n"
        "    command = ('/bin/sh', '-c', 'exec sleep 60')\n"
        "    supervisor.start(\n"
        "        s.SupervisedProcess('four', command, note.with_suffix('.log'))\n"
        "    )\n"
        "    note.with_suffix('.part').write_text(str(supervisor.pid('four')))\n"
        "    note.with_suffix('.part').rename(note)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=Path.cwd())
    until(note.exists)
    child = int(note.read_text())
    parent.kill()
    parent.wait()
    until(lambda: not alive(child))


def test_starling_command_runs_this_tree(tmp_path: Path) -> None:
    said = subprocess.run(
        starling_command("--help"),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=child_environment(),
    )
    assert "usage: starling" in said.stdout
