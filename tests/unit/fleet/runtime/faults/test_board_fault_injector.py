"""Faults of boards are carried out on real processes; lossy links are refused."""

from pathlib import Path

import pytest

from starling.fleet.board_faults import board_faults
from starling.fleet.runtime.faults.board_fault_injector import (
    BoardFaultInjector,
    refuse_lossy_links,
)
from starling.fleet.runtime.processes.home_setup import board_name
from starling.fleet.runtime.processes.supervisor import (
    ProcessSupervisor,
    SupervisedProcess,
)
from starling.protocol.errors import ConfigError

BOARDS = 3


def pids(supervisor: ProcessSupervisor) -> list[int | None]:
    return [supervisor.pid(board_name(number)) for number in range(BOARDS)]


def sleepers(supervisor: ProcessSupervisor, folder: Path) -> list[int | None]:
    for number in range(BOARDS):
        name = board_name(number)
        command = ("/bin/sh", "-c", "exec sleep 60")
        supervisor.start(SupervisedProcess(name, command, folder / f"{name}.log"))
    return pids(supervisor)


def test_board_without_power_starts_again_at_once(tmp_path: Path) -> None:
    harm = BoardFaultInjector(board_faults("board 2 loses power at 1s", BOARDS))
    with ProcessSupervisor() as supervisor:
        before = sleepers(supervisor, tmp_path)
        assert harm.carry_out(0.9, supervisor) == []

        assert harm.carry_out(1.0, supervisor) == ["board 2 lost power"]

        after = pids(supervisor)
        assert (after[0], after[2]) == (before[0], before[2])
        assert after[1] not in {None, before[1]}


def test_boards_that_leave_come_back_when_the_last_of_their_faults_ends(
    tmp_path: Path,
) -> None:
    text = "boards 1-2 leave from 1s to 3s; board 2 leaves from 2s to 4s"
    harm = BoardFaultInjector(board_faults(text, BOARDS))
    with ProcessSupervisor() as supervisor:
        before = sleepers(supervisor, tmp_path)
        harm.carry_out(1.0, supervisor)
        assert pids(supervisor) == [None, None, before[2]]
        assert supervisor.check() == []

        harm.carry_out(3.0, supervisor)
        first, second, _ = pids(supervisor)
        assert first not in {None, before[0]}
        assert second is None

        harm.carry_out(9.0, supervisor)
        assert None not in pids(supervisor)


def test_lossy_link_of_a_process_is_refused() -> None:
    refuse_lossy_links(board_faults("board 1 leaves from 1s", BOARDS))

    with pytest.raises(ConfigError, match="--virtual"):
        refuse_lossy_links(board_faults("link of board 1 drops 5 %", BOARDS))
