"""Who holds the lock runs; who only has its number does not."""

import os
from pathlib import Path

import pytest

from starling.agent.runtime.process_state import Liveness, ProcessState, look
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.durable.locks import lock
from tests.unit.agent.runtime.lock_holder import halt, lock_holder


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
    with lock_holder(home) as child:
        running = look(home)
        halt(child)
        halted = look(home)

    assert running == ProcessState(Liveness.RUNS, child.pid)
    assert halted == ProcessState(Liveness.HALTED, child.pid)
