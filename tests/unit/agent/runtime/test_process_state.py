"""Who holds the lock runs; who only has its number does not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from starling.agent.runtime.process_state import Liveness, ProcessState, look
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.durable.files import lock


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    (tmp_path / "state").mkdir()
    return AgentHome(tmp_path)


def test_home_without_a_lock_has_no_process(home: AgentHome) -> None:
    assert look(home) == ProcessState(Liveness.GONE, 0)


@pytest.mark.parametrize("pid", [1, os.getpid()], ids=["init", "this one"])
def test_number_of_a_process_that_holds_no_lock_is_somebody_elses(
    home: AgentHome, pid: int
) -> None:
    (home.state / "lock").write_text(f"{pid}\n")

    assert look(home) == ProcessState(Liveness.GONE, pid)


def test_holder_of_the_lock_runs_until_it_lets_go(home: AgentHome) -> None:
    with lock(home.state / "lock"):
        held = look(home)

    assert held == ProcessState(Liveness.RUNS, os.getpid())
    assert look(home) == ProcessState(Liveness.GONE, os.getpid())


def test_holder_of_another_homes_lock_is_not_ours(
    home: AgentHome, tmp_path: Path
) -> None:
    (home.state / "lock").write_text(f"{os.getpid()}\n")

    with lock(tmp_path / "other"):
        assert look(home).liveness is Liveness.GONE


def test_halted_holder_is_told_from_one_that_runs(home: AgentHome) -> None:
    code = (
        "import sys; from pathlib import Path; from starling.durable.files import lock;"
        "held = lock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(home.state / "lock")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        running = look(home)
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        halted = look(home)
        child.kill()

    assert running == ProcessState(Liveness.RUNS, child.pid)
    assert halted == ProcessState(Liveness.HALTED, child.pid)
